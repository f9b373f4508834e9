"""Token-level losses: coordinates, rules, names and tensor functions."""
