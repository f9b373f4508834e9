"""Data frames as tables of text, Markdown, LaTeX and HTML."""
