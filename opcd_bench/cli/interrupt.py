"""What a long command says, and how it leaves, when ctrl-C ends it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from opcd_bench.printable import printable

INTERRUPTED = 130


@contextmanager
def interruptible(context: typer.Context, kept: str) -> Iterator[None]:
    """Ctrl-C says what is ``kept`` and what to type to go on, and leaves with its exit code."""
    try:
        yield
    except KeyboardInterrupt:
        words = context.obj if isinstance(context.obj, tuple) else tuple(sys.argv[1:])
        print(
            f"\nInterrupted. {kept}; to continue, type the same command again:\n  "
            + printable(shlex.join(["opcd-bench", *words])),
            file=sys.stderr,
        )
        raise typer.Exit(INTERRUPTED) from None
