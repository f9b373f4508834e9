"""A command line in this process, for the tests that look at what it leaves on the disk."""

from collections.abc import Sequence

from opcd_bench.cli import main


def opcd(*words: str) -> int:
    """Run a command line; its exit code."""
    try:
        main.entry(list(words))
    except SystemExit as left:
        return left.code or 0
    return 0


def over(words: Sequence[str], *more: str) -> list[str]:
    """A command line with the options of ``more``, each followed by its value, put over its own."""
    kept: list[str] = []
    given = iter(words)
    for word in given:
        if word in more[::2]:
            next(given)
        else:
            kept.append(word)
    return [*kept, *more]
