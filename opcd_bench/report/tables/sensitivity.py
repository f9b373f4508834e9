"""Where the variance of a gain comes from, as a table a task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from opcd_bench.report.analysis.sensitivity import EXAMPLES
from opcd_bench.report.analysis.statistics import FEWEST_SEEDS
from opcd_bench.report.tables.layout import Group, Section
from opcd_bench.report.tables.shown_methods import label

NOTE = (
    "An analysis of variance of the gain on test, over the seeds that all methods share, each "
    "method at the learning rate at which it is compared. Teachers and losses are fixed; seeds "
    "and test examples are random, and every run has the same ones. share: of the sum of squares "
    "over the runs, less what seeds and examples alone add to it (epsilon squared: 0 on average "
    "where a source does nothing, so that it may be below 0). spread: the root mean square of "
    "that part, in points. p: of a quasi-F test against the interactions of the source with seeds "
    "and with examples (Satterthwaite's degrees of freedom), and never smaller than that of an F "
    "test against seeds alone. Methods whose runs all end at 0 do not vary, so p is rough where "
    "there are some. test examples: what comes of teachers and losses doing well on different "
    "examples. seed: all other differences between runs of one teacher and one loss."
)
SURE = 0.05


def sections(frame: pd.DataFrame) -> list[Section]:
    """`sensitivity` as tables; none where no task has a grid of teachers and losses."""
    return [_section(str(task), rows) for task, rows in frame.groupby("task", sort=False)]


def _section(task: str, rows: pd.DataFrame) -> Section:
    first = rows.iloc[0]
    title = (
        f"{task}: variance of the gain, {first['teachers']} teachers x {first['losses']} losses, "
        f"{_named(first['seeds'])}, {first['examples']} test examples"
    )
    lines = tuple(
        (row["source"], _points(row["share"]), _points(row["spread"]), _p(row["p"]))
        for row in rows.to_dict("records")
    )
    columns = ("source", "share (%)", "spread", "p")
    return Section(title, columns, (Group("", lines),), (NOTE,))


def _named(seeds: Sequence[int]) -> str:
    return f"seeds {', '.join(map(str, seeds))}"


def _points(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.1f}"


def _p(p: float) -> str:
    """Two digits, and never 0."""
    if math.isnan(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.2g}"


def conclusions(frame: pd.DataFrame, lacking: pd.DataFrame) -> list[str]:
    """One line a task: what is shown to matter, or why there is no analysis yet."""
    found = []
    for task, rows in frame.groupby("task", sort=False):
        parts = rows[~rows["source"].isin(("seed", EXAMPLES))]
        parts = parts.sort_values("share", ascending=False)
        sure = [
            f"{row.source} ({100 * row.share:.0f} %)" for row in parts.itertuples() if row.p <= SURE
        ]
        seed = float(rows.loc[rows["source"] == "seed", "share"].iloc[0])
        says = (
            f"the gain varies with {' and '.join(sure)}"
            if sure
            else "neither the teacher nor the loss is shown to change the gain"
        )
        if math.isnan(seed):
            found.append(f"{task}: all runs gained the same.")
            continue
        between = 100 * min(seed, 1.0)  # chance alone may leave teacher and loss below 0
        found.append(f"{task}: {says}; {between:.0f} % of its variance is between seeds.")
    return [*found, *map(_lacks, lacking.to_dict("records"))]


def _lacks(row: dict[str, Any]) -> str:
    """Why a task that crosses teachers and losses has no analysis."""
    shared = f"{len(row['seeds'])}" if row["seeds"] else "none"
    fewest = ", ".join(map(label, row["fewest"]))
    return (
        f"{row['task']}: no analysis of variance yet. It takes {FEWEST_SEEDS} seeds that all "
        f"{row['methods']} methods share, and they share {shared}. Fewest have {fewest} "
        f"({row['has']})."
    )
