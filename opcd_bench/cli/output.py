"""How a subcommand prints: aligned text for people, JSON for programs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from opcd_bench.errors import DataWarning
from opcd_bench.printable import json_visible, one_line, printable

if TYPE_CHECKING:
    import pandas as pd

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def text_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned by spaces, numbers to the right; None prints as a dash."""
    cells = [["–" if cell is None else one_line(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    right = [
        bool(rows) and all(isinstance(row[i], int | float | None) for row in rows)
        for i in range(len(columns))
    ]
    lines = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in [list(columns), ["-" * width for width in widths], *cells]
    ]
    return "\n".join(lines)


_OUT: list[TextIO] = []
"""The real standard output, while `json_alone` keeps everything else off it."""


@contextlib.contextmanager
def json_alone() -> Iterator[None]:
    """Nothing but `print_json` writes to standard output; what plugins print goes to the error's.

    A method's or a task's own code may print whenever it runs, past Python's own stream too, and
    must not spoil ``--json``.
    """
    with _own_stream() as out:
        _OUT.append(out)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        finally:
            _OUT.pop()


@contextlib.contextmanager
def _own_stream() -> Iterator[TextIO]:
    """Standard output, with the process's descriptor of it turned to standard error's."""
    try:
        ours = sys.stdout.fileno() == 1
    except (OSError, AttributeError, ValueError):  # no file: a test's stand-in, or closed
        ours = False
    if not ours:
        yield sys.stdout
        return
    sys.stdout.flush()
    with os.fdopen(os.dup(1), "w", encoding=sys.stdout.encoding, errors="replace") as out:
        os.dup2(2, 1)
        try:
            yield out
        finally:
            sys.stdout.flush()
            os.dup2(out.fileno(), 1)


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """What is said of a user's data is a line on standard error, without the place in our code."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, DataWarning):
            print(printable(f"opcd-bench: warning: {message}"), file=sys.stderr)
        else:
            usual(message, category, filename, lineno, file, line)

    usual = warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always", DataWarning)
        warnings.showwarning = show
        yield


def print_json(value: Any) -> None:
    """One indented JSON document on standard output."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    print(json_visible(text), file=_OUT[-1] if _OUT else sys.stdout)


def say(text: object = "", *, flush: bool = False) -> None:
    """Lines on standard output; what others wrote of them shows its control codes."""
    print(printable(str(text)), flush=flush)


def plain(value: Any) -> Any:
    """A table's entry as JSON: intervals as objects, what is missing as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {key: plain(below) for key, below in dataclasses.asdict(value).items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple):
        return [plain(below) for below in value]
    if hasattr(value, "item"):  # a numpy scalar
        return plain(value.item())
    return value


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows as JSON objects."""
    return [{str(k): plain(v) for k, v in row.items()} for row in table.to_dict("records")]


def print_broken(broken: Mapping[str, Exception]) -> None:
    """Plugins that do not load, with their reasons, on standard error."""
    for name, error in broken.items():
        print(printable(f"broken: {name}: {error}"), file=sys.stderr)


def exit_if(failed: bool) -> None:
    """Leave with exit code 1 if something failed."""
    if failed:
        raise typer.Exit(1)
