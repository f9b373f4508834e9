"""opcd-bench: which way of teaching a language model by context really works."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("opcd-bench")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
