"""What every test may use."""

from fixtures import tiny_loaded, tiny_model_folder

__all__ = ["tiny_loaded", "tiny_model_folder"]
