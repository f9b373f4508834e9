"""The method, its losses and teachers, the sampling of replies, and the trainer."""
