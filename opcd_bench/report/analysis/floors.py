"""Which methods are shown to be above the floor: the best policy that does not use the context."""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

from opcd_bench.report.analysis.load import StoredResults

BEST = "best possible"
"""What stands beside the floors of a task in suite.json, and is none."""


class AboveFloor(NamedTuple):
    """Of one task: its best floor and that policy's name; whether the ceiling is shown to be above.

    ``below``: the methods whose interval at their headline rate does not lie above it, in the
    order of the table; ``some``: whether another's does.
    """

    name: str
    floor: float
    ceiling: bool
    below: tuple[str, ...]
    some: bool


def best(results: StoredResults, task: str) -> tuple[str, float]:
    """The best score of policies that do not use the context, as the run stored it, or NaN."""
    stored = results.suite.get("floors", {}).get(task, {})
    known = [(value, name) for name, value in stored.items() if name != BEST]
    value, name = max(known, default=(math.nan, ""))
    return name, value


def above_floor(results: StoredResults, table: pd.DataFrame) -> dict[str, AboveFloor]:
    """Every task of `headline` that has a floor and a finished method; controls take no part."""
    found = {}
    compared = table[table["headline"].astype(bool) & (table["seeds"] > 0)]
    for task, rows in compared.groupby("task", sort=False):
        name, floor = best(results, str(task))
        rows = [row for row in rows.to_dict("records") if row.get("control") is not True]
        if math.isnan(floor) or not rows:
            continue
        below = tuple(str(row["method"]) for row in rows if not row["plain"].low > floor)
        ceiling = any(row["ceiling"].low > floor for row in rows)
        found[str(task)] = AboveFloor(name, floor, ceiling, below, len(below) < len(rows))
    return found
