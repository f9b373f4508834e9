"""What a run will take, before it: tokens, memory and time."""
