"""One cell computed by several processes: who they are, and how they share a model."""
