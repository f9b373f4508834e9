"""The prefix probe: accuracy of whoever goes on, against how much is the student's own."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from opcd_bench.report.analysis.prefixes import STUDENT
from opcd_bench.report.analysis.probed_step import step_words
from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import DrawnFigure, made
from opcd_bench.report.figures.words import interval_words, listed, summed_seeds
from opcd_bench.report.tables.shown_methods import label

KIND = "prefixes"
DATA = [
    "method", "learning_rate", "step", "teacher", "share", "accuracy", "accuracy_low",
    "accuracy_high", "own",
]  # fmt: skip
LETTERS = 46
"""How many letters of a title a panel has room for."""
MARKERS = ("o", "s", "^", "D", "v", "P")


def data(frame: pd.DataFrame, task: str) -> pd.DataFrame:
    """What is drawn of a task, in shares."""
    mine = frame[frame["task"] == task].reset_index(drop=True)
    spread = look.spread(mine, "accuracy")
    own = [interval.value for interval in mine["own"]]
    flat = pd.concat([mine.drop(columns=["accuracy", "own"]), spread], axis=1).assign(own=own)
    return flat[DATA]


def drawn(frame: pd.DataFrame, task: str) -> DrawnFigure:
    """The figure of a task: a panel a student."""
    flat = data(frame, task)
    counts = list(frame.loc[frame["task"] == task, "seeds"])
    caption = (
        "Accuracy of whoever goes on from a student's own tokens, against the share of its "
        f"response that they are, with {interval_words('examples', counts)}. Dashed: after as "
        "much of a response of the same teacher. A line that falls more than its "
        "dashed one is a teacher that cannot use "
        f"what the student wrote. {summed_seeds(counts)}"
    )
    teachers = list(dict.fromkeys(flat["teacher"]))
    said = " ".join(
        f"{label(row.method)}, {row.teacher}: {look.points(row.accuracy, decimals=1)} % after "
        f"{row.share:.0%}."
        for row in flat[flat["share"] == flat["share"].max()].itertuples()
    )
    alt = f"{task}: accuracy of {listed(teachers)} against the share of student tokens. {said}"
    return made(task, KIND, caption, alt, flat, lambda narrow: _draw(flat, narrow=narrow))


def _draw(flat: pd.DataFrame, *, narrow: bool) -> Figure:
    students = list(flat.groupby(DATA[:3], sort=False, dropna=False))
    teachers = list(dict.fromkeys(flat["teacher"]))
    across = 1 if narrow or len(students) == 1 else 2
    width = look.COLUMN if across == 1 else look.PAGE
    handles = [
        Line2D([], [], color=_colour(at), marker=MARKERS[at % len(MARKERS)], label=name)
        for at, name in enumerate(teachers)
    ]
    height = 2.2 * look.rows_of(len(students), across) + look.legend_height(handles, width)
    figure, axes = look.grid(len(students), across, (width, height))
    for panel, ((method, rate, step), part) in zip(axes, students, strict=True):
        for at, teacher in enumerate(teachers):
            _line(panel, part[part["teacher"] == teacher], at, own=teacher != STUDENT)
        named = "" if pd.isna(rate) else f", {rate:g}"
        title = f"{label(method)}{named}, {step_words(step)}"
        panel.set_title(look.wrapped(title, LETTERS))
        panel.set_xlabel("student's tokens (%)")
        panel.set_ylabel("accuracy (%)")
        look.at_least(panel, look.LEAST_SPAN)
        look.percent(panel)
    look.legend(figure, handles)
    return figure


def _colour(at: int) -> str:
    return look.COLOURS[at % len(look.COLOURS)]


def _line(panel: Axes, part: pd.DataFrame, at: int, *, own: bool) -> None:
    part = part.sort_values("share")
    panel.errorbar(
        part["share"], part["accuracy"], yerr=look.reach(part, "accuracy"),
        color=_colour(at), marker=MARKERS[at % len(MARKERS)], elinewidth=0.8,
    )  # fmt: skip
    if own:
        panel.plot(part["share"], part["own"], color=_colour(at), linestyle="--", linewidth=0.9)
