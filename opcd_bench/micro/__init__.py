"""The built-in model: its tokenizer, weights, world and pre-training recipe."""
