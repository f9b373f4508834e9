"""Where the variance of a gain comes from, as a table a task."""

from __future__ import annotations

import pandas as pd

from opcd_bench.report.tables.layout import Group, Section

NOTE = (
    "A two-way analysis of variance of the gain on test over all runs, each method at the learning "
    "rate at which it is compared. share: of the sum of squares. spread: its root mean square per "
    "run, in points. seed: what differs between runs of one teacher and one loss."
)


def sections(frame: pd.DataFrame) -> list[Section]:
    """`sensitivity` as tables; none where no task has a grid of teachers and losses."""
    return [_section(str(task), rows) for task, rows in frame.groupby("task", sort=False)]


def _section(task: str, rows: pd.DataFrame) -> Section:
    first = rows.iloc[0]
    seeds = "one seed" if first["seeds"] == 1 else f"{first['seeds']} seeds"
    title = f"{task}: variance of the gain, {first['teachers']} teachers x {first['losses']} losses"
    lines = tuple(
        (row["source"], f"{100 * row['share']:.1f}", f"{100 * row['spread']:.1f}")
        for row in rows.to_dict("records")
    )
    return Section(f"{title}, {seeds}", ("source", "share (%)", "spread"), (Group("", lines),),
                   (NOTE,))  # fmt: skip
