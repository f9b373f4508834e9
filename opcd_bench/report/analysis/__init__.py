"""From stored results to data frames: statistics, comparisons, curves."""
