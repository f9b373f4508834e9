"""Runtime teachers: who scores a step's replies, and how its output meets the loss."""
