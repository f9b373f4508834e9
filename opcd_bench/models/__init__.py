"""Models: loading, saving, adapters and prompts by their chat templates."""
