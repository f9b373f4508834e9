"""Suites that ship with the package, as TOML."""
