"""The comparison report: pure, without torch."""
