"""Rescue against gain: a point a teacher that a method learnt from on the student's responses."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from opcd_bench.report.analysis.rescue import SHARE
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import DrawnFigure, made
from opcd_bench.report.figures.style import Mark, Marks
from opcd_bench.report.figures.words import AT_RATE, counted, listed, summed_seeds

KIND = "rescue"
DATA = [
    "method", "teacher", "rescue", "rescue_low", "rescue_high", "gain", "gain_low", "gain_high",
]  # fmt: skip


def data(frame: pd.DataFrame, task: str) -> pd.DataFrame:
    """`rescue.rescues` of a task, flat, in shares."""
    mine = frame[frame["task"] == task].reset_index(drop=True)
    flat = mine[["method", "teacher"]]
    return flat.join([look.spread(mine, name) for name in ("rescue", "gain")])[DATA]


def drawn(frame: pd.DataFrame, task: str, marks: Marks) -> DrawnFigure:
    """The figure of a task."""
    flat = data(frame, task)
    caption = (
        "What a method gained on test over the base by training on the student's own responses, "
        f"{AT_RATE}, against what its teacher rescues: of the base's wrong responses, how many "
        f"the teacher turns right from {SHARE:.0%} of their tokens, less how many the base itself "
        "does. In points, with 95 % intervals. Written beside each point: the teacher, as the "
        f"prefix probe calls it. {summed_seeds([len(s) for s in frame['seeds']])}"
    )
    each = [
        f"{row.teacher} ({marks[row.method].label}) rescues {look.change(row.rescue)} and taught "
        f"{look.change(row.gain)}"
        for row in flat.itertuples()
    ]
    alt = f"{task}: rescue against gain, in points. {listed(each)}."
    return made(task, KIND, caption, alt, flat, lambda narrow: _draw(flat, marks, narrow=narrow))


def conclusion(frame: pd.DataFrame, task: str) -> str:
    """One line: which teacher rescues most, and from which most was gained."""
    mine = frame[frame["task"] == task].to_dict("records")
    rescuer, taught = (max(mine, key=lambda row: row[name].value) for name in ("rescue", "gain"))
    teachers = counted(len({row["teacher"] for row in mine}), "teacher")
    best = f"{rescuer['teacher']} rescues most ({_points(rescuer['rescue'])} points)"
    if taught["teacher"] == rescuer["teacher"]:
        return f"{task}: of {teachers}, {best}, and taught most ({_points(taught['gain'])})."
    return (
        f"{task}: of {teachers}, {best}, while most was gained from {taught['teacher']} "
        f"({_points(taught['gain'])})."
    )


def _points(interval: Interval) -> str:
    return interval.points().replace("-", look.MINUS)


def _draw(flat: pd.DataFrame, marks: Marks, *, narrow: bool) -> Figure:
    width = look.COLUMN if narrow else look.PAGE
    entries = look.handles(marks, flat["method"], line=False)
    figure, (panel,) = look.grid(1, 1, (width, 2.7 + look.legend_height(entries, width)))
    panel.axhline(0, color=look.RULE, linewidth=0.7, zorder=1)
    panel.axvline(0, color=look.RULE, linewidth=0.7, zorder=1)
    for row in flat.sort_values("gain").to_dict("records"):
        _point(panel, row, marks[row["method"]])
    panel.margins(x=0.12, y=0.1)
    look.at_least(panel, look.LEAST_SPAN)
    look.percent(panel)
    panel.set_xlabel("rescued by the teacher (points)")
    panel.set_ylabel("gain on test (points)")
    look.legend(figure, entries)
    return figure


def _point(panel: Axes, row: dict[str, float | str], mark: Mark) -> None:
    x, y = float(row["rescue"]), float(row["gain"])
    for xs, ys in (
        ([row["rescue_low"], row["rescue_high"]], [y, y]),
        ([x, x], [row["gain_low"], row["gain_high"]]),
    ):
        if not np.isnan([*map(float, xs), *map(float, ys)]).any():
            panel.plot(xs, ys, color=mark.colour, linewidth=1.0, zorder=2)
    panel.plot([x], [y], mark.marker, color=mark.colour, markersize=6.5, zorder=3)
    panel.annotate(
        str(row["teacher"]), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=7,
        color=look.INK,
    )  # fmt: skip
