"""What a suite asks for against what has run: the cells that are planned, and those missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

Key = tuple[str, str, float]
"""(task, method, learning rate)."""


def planned(suite: Mapping[str, Any]) -> list[Key]:
    """Every (task, method, rate) that suite.json asks for, run or not."""
    return [
        (task, method, float(rate))
        for task in suite.get("tasks", [])
        for method in suite.get("methods", [])
        for rate in suite.get("learning_rate", [])
    ]


def seeds_planned(
    suite: Mapping[str, Any], cells: pd.DataFrame, key: Key, *, headline: bool
) -> int:
    """How many seeds the suite asks for at ``key``, as far as is known by now.

    ``headline``: whether its method stands at this rate; where the suite chooses that on dev, it is
    known once the method's sweep is done. 0 for a rate that the suite does not name.
    """
    task, method, rate = key
    rates = [float(value) for value in suite.get("learning_rate", [])]
    seeds, swept = int(suite.get("seeds", 0)), suite.get("sweep_seeds")
    if rate not in rates:
        return 0
    if swept is None or rate == suite.get("headline_learning_rate"):
        return seeds
    if headline and suite.get("headline_learning_rate") == "dev":
        mine = cells[(cells["task"] == task) & (cells["method"] == method)]
        ran = mine[mine["state"] == "done"].groupby("learning_rate")["seed"].nunique()
        if all(ran.get(other, 0) >= int(swept) for other in rates):
            return seeds
    return int(swept)


def cells_planned(
    suite: Mapping[str, Any], begun: Sequence[tuple[str, str, float, int, str]]
) -> int:
    """How many cells a suite comes to, as far as is known by now; ``begun``: with their states.

    The seeds that the sweep leaves out count from the beginning where the headline rate is chosen
    on dev: one rate of each task and method gets them.
    """
    columns = ["task", "method", "learning_rate", "seed", "state"]
    cells = pd.DataFrame(list(begun), columns=columns)
    total = sum(seeds_planned(suite, cells, key, headline=False) for key in planned(suite))
    if suite.get("headline_learning_rate") == "dev":
        pairs = len(suite.get("tasks", [])) * len(suite.get("methods", []))
        total += pairs * (int(suite["seeds"]) - int(suite["sweep_seeds"]))
    return max(total, len(cells))


def state(cells: pd.DataFrame, planned: int) -> str:
    """``done``, or how many of the ``planned`` cells are missing and why the first of them is."""
    reasons = [
        f"failed: {cell['reason']}" if cell["state"] == "failed" else cell["state"]
        for cell in cells.to_dict("records")
        if cell["state"] != "done"
    ]
    reasons += ["not run"] * (planned - len(cells))
    if not reasons:
        return "done"
    total = max(planned, len(cells))
    if total == 1:
        return str(reasons[0])
    return f"{len(reasons)} of {total} seeds missing ({reasons[0]})"
