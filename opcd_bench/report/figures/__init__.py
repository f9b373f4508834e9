"""Data frames as figures."""
