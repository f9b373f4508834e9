"""Accuracy against the false share of the context: a line a method, one of its teacher."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from opcd_bench.report.analysis.qualities import TEACHER
from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import DrawnFigure, made
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.figures.words import AT_RATE, listed, summed_seeds

KIND = "qualities"
DATA = ["line", "false_share", "task", "accuracy", "accuracy_low", "accuracy_high"]
APART = 0.006
"""Shares between lines at one share, so that no interval hides another."""


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """`qualities.qualities`, flat, in shares."""
    flat = frame.assign(line=frame["method"]).drop(columns="accuracy")
    return flat.join(look.spread(frame, "accuracy"))[DATA]


def drawn(frame: pd.DataFrame, marks: Marks) -> DrawnFigure:
    """The figure of all tasks."""
    flat = data(frame)
    caption = (
        "Test accuracy of each method's student, which reads no context, and of the base with the "
        "context, against the share of the context's lines that are false, with 95 % intervals, "
        f"{AT_RATE}. Answers are graded by what is true. "
        + summed_seeds(list(frame.loc[frame["method"] != TEACHER, "seeds"]))
    )
    return made("", KIND, caption, _said(flat, marks), flat,
                lambda narrow: _draw(flat, marks, narrow=narrow))  # fmt: skip


def _name(line: str, marks: Marks) -> str:
    return marks[line].label if line in marks else line


def _said(flat: pd.DataFrame, marks: Marks) -> str:
    parts = []
    for line, points in flat.groupby("line", sort=False):
        each = [
            f"{look.points(row.accuracy, decimals=1)} % with "
            f"{look.points(row.false_share, decimals=0)} %"
            for row in points.itertuples()
        ]
        parts.append(f"{_name(str(line), marks)}: {listed(each)}.")
    return "Test accuracy by false share of the context. " + " ".join(parts)


def conclusion(changes: pd.DataFrame, marks: Marks) -> str:
    """One line on `qualities.changes`; nothing where nobody ran at both ends."""
    if changes.empty:
        return ""
    first = changes.iloc[0]
    each = [
        f"{_name(row.method, marks)} {look.change(row.change.value)} "
        f"[{look.change(row.change.low)}, {look.change(row.change.high)}]"
        for row in changes.itertuples()
    ]
    ends = [look.points(first[name], decimals=0) for name in ("first", "last")]
    return f"From {ends[0]} to {ends[1]} % false lines, points of accuracy: {'; '.join(each)}."


def _draw(flat: pd.DataFrame, marks: Marks, *, narrow: bool) -> Figure:
    width = look.COLUMN if narrow else look.PAGE
    methods = look.ordered(marks, flat["line"])
    taught = Line2D([], [], color=look.MUTED, marker="_", linestyle="--", label=TEACHER)
    entries = [taught, *look.handles(marks, methods)]
    figure, (panel,) = look.grid(1, 1, (width, 3.1 + look.legend_height(entries, width)))
    for at, line in enumerate([TEACHER, *methods]):
        points = flat[flat["line"] == line]
        mark = marks[line] if line in marks else None
        panel.errorbar(
            points["false_share"] + APART * (at - len(methods) / 2), points["accuracy"],
            yerr=look.reach(points, "accuracy"),
            color=mark.colour if mark else look.MUTED, marker=mark.marker if mark else "_",
            linestyle=mark.line if mark else "--", elinewidth=0.8, zorder=3 if mark else 2,
        )  # fmt: skip
    ticks = sorted(set(flat["false_share"]))
    panel.set_xticks(ticks, [look.points(tick, decimals=0) for tick in ticks])
    panel.set_xlabel("false lines in the context (%)")
    panel.set_ylabel("test accuracy (%)")
    look.percent(panel, "y")
    look.legend(figure, entries)
    return figure
