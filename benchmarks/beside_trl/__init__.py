"""What `benchmarks/against_trl.py` is made of: the same work for this package and for TRL."""
