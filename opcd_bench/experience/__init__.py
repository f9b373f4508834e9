"""How a context is made from the model's own traces."""
