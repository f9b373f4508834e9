"""The report as a page and a folder of files."""
