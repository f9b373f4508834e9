"""How a subcommand prints: aligned text for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def text_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns aligned by spaces, numbers to the right; None prints as a dash."""
    cells = [["–" if cell is None else str(cell) for cell in row] for row in rows]
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


def print_json(value: Any) -> None:
    """One indented JSON document on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


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
        print(f"broken: {name}: {error}", file=sys.stderr)


def exit_if(failed: bool) -> None:
    """Leave with exit code 1 if something failed."""
    if failed:
        raise typer.Exit(1)
