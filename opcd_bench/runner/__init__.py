"""From a suite to sealed runs: the registry, the grid, and one cell from start to seal."""
