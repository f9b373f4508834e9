"""opcd-bench: which way of teaching a language model by context really works."""

from opcd_bench.version import __version__

__all__ = ["__version__"]
