"""A suite's settings, their rules and the suites that ship."""
