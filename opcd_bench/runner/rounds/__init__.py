"""Rounds of extract, deploy and consolidate: chains of suites."""
