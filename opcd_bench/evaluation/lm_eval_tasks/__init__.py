"""Tasks of this project as lm-eval reads them: ``lm_eval --include_path <this folder>``."""
