"""Run and suite directories: seal, checkpoints, atomic files."""
