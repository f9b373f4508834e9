"""A command line in this process, for the tests that look at what it leaves on the disk."""

from opcd_bench.cli import main


def opcd(*words: str) -> int:
    """Run a command line; its exit code."""
    try:
        main.entry(list(words))
    except SystemExit as left:
        return left.code or 0
    return 0
