"""What several tasks say of a method together, along a number in which they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import TypeVar

import pandas as pd

from opcd_bench.report.analysis import statistics

CHANGES = ["method", "first", "last", "seeds", "change"]
LEAST = 3
"""Tasks of different numbers that make a line."""

Place = TypeVar("Place", bound=Hashable)


def alone(places: Mapping[str, Place]) -> dict[str, Place]:
    """Those tasks that share their place with no other: which of two belongs here, nothing says."""
    count = Counter(places.values())
    return {task: place for task, place in places.items() if count[place] == 1}


def ordered(frame: pd.DataFrame, *along: str) -> pd.DataFrame:
    """By method, in the order in which they come, and then ``along`` these columns."""
    order = {name: at for at, name in enumerate(dict.fromkeys(frame["method"]))}
    placed = frame.assign(at=frame["method"].map(order))
    return placed.sort_values(["at", *along], ignore_index=True, kind="stable")[frame.columns]


def changes(frame: pd.DataFrame, along: str, measured: str) -> pd.DataFrame:
    """Of each method the ``change`` of ``measured`` from the least ``along`` to the largest.

    Of methods that ran at both ends; ``seeds``: of the end with fewer. The tasks are taken to share
    no example, so the interval is that of `statistics.apart`. Columns `CHANGES`.
    """
    first, last = frame[along].min(), frame[along].max()
    rows = []
    for method, points in frame.groupby("method", sort=False):
        at = dict(zip(points[along], points[measured], strict=True))
        if first < last and {first, last} <= at.keys():
            seeds = points.loc[points[along].isin([first, last]), "seeds"].min()
            rows.append((method, first, last, seeds, statistics.apart(at[last], at[first])))
    return pd.DataFrame(rows, columns=CHANGES)
