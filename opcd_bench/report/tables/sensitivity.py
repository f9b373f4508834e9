"""Where the variance of a gain comes from, as a table a task."""

from __future__ import annotations

import math

import pandas as pd

from opcd_bench.report.tables.layout import Group, Section

NOTE = (
    "An analysis of variance of the gain on test over all runs, each method at the learning rate "
    "at which it is compared; teachers and losses are crossed, and seeds are blocks, which have "
    "the same prompts for all. share: of the sum of squares, less what seeds add to it (epsilon "
    "squared: 0 on average where only seeds differ, and it may be below). spread: its root mean "
    "square per run, in points. p: of the F test: of teacher against teacher x seed (by how much a "
    "teacher's effect changes with the seed), of loss against loss x seed, of the others against "
    "what is left. Arms that end at 0 do not vary, so p is rough where some do. seed: all else "
    "that differs between runs of one teacher and one loss."
)
SURE = 0.05


def sections(frame: pd.DataFrame) -> list[Section]:
    """`sensitivity` as tables; none where no task has a grid of teachers and losses."""
    return [_section(str(task), rows) for task, rows in frame.groupby("task", sort=False)]


def _section(task: str, rows: pd.DataFrame) -> Section:
    first = rows.iloc[0]
    seeds = f"{first['seeds']} seeds"
    title = f"{task}: variance of the gain, {first['teachers']} teachers x {first['losses']} losses"
    lines = tuple(
        (
            row["source"], f"{100 * row['share']:.1f}", f"{100 * row['spread']:.1f}",
            "" if math.isnan(row["p"]) else f"{row['p']:.2g}",
        )
        for row in rows.to_dict("records")
    )  # fmt: skip
    columns = ("source", "share (%)", "spread", "p")
    return Section(f"{title}, {seeds}", columns, (Group("", lines),), (NOTE,))


def conclusions(frame: pd.DataFrame) -> list[str]:
    """One line a task: what has the largest share, and which sources are shown to matter."""
    found = []
    for task, rows in frame.groupby("task", sort=False):
        parts = rows[rows["source"] != "seed"].sort_values("share", ascending=False)
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
    return found
