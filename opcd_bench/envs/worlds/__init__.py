"""The generator of the built-in model's world: every text it was pre-trained on is drawn here."""
