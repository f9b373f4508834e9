"""Rescue against gain: a point a teacher that a method learnt from on the student's responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from opcd_bench.report.analysis.rescue import SHARE
from opcd_bench.report.analysis.statistics import FEWEST_SEEDS, Interval, apart
from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import DrawnFigure, made
from opcd_bench.report.figures.plane import intervals
from opcd_bench.report.figures.style import Mark, Marks
from opcd_bench.report.figures.words import AT_RATE, counted, listed, summed_seeds

KIND = "rescue"
DATA = [
    "method", "teacher", "rescue", "rescue_low", "rescue_high", "gain", "gain_low", "gain_high",
]  # fmt: skip

CORNERS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
NAME = {False: (0.0105, 0.07), True: (0.022, 0.07)}
"""How wide a letter of a name is, and how high a name, as shares of what is drawn; by narrow."""

MARGIN = 0.12
"""What the panel has on both sides of all intervals, as a share of what is drawn."""


def data(frame: pd.DataFrame, task: str) -> pd.DataFrame:
    """`rescue.rescues` of a task, flat, in shares."""
    mine = frame[frame["task"] == task].reset_index(drop=True)
    flat = mine[["method", "teacher"]]
    return flat.join([look.spread(mine, name) for name in ("rescue", "gain")])[DATA]


def drawn(frame: pd.DataFrame, task: str, marks: Marks) -> DrawnFigure:
    """The figure of a task."""
    flat = data(frame, task)
    seeds = frame.loc[frame["task"] == task, "seeds"]
    caption = (
        "What a method gained on test over the base by training on the student's own responses, "
        f"{AT_RATE}, against what its teacher rescues: of the base's wrong responses, how many "
        f"the teacher turns right from {SHARE:.0%} of their tokens, less how many the base itself "
        "does. In points, with 95 % intervals. Written beside each point: the teacher, as the "
        f"prefix probe calls it. {summed_seeds(map(len, seeds))}"
    )
    each = [
        f"{row.teacher} ({marks[row.method].label}) rescues {look.change(row.rescue)} and taught "
        f"{look.change(row.gain)}"
        for row in flat.itertuples()
    ]
    alt = f"{task}: rescue against gain, in points. {listed(each)}."
    return made(task, KIND, caption, alt, flat, lambda narrow: _draw(flat, marks, narrow=narrow))


def conclusion(frame: pd.DataFrame, task: str) -> str:
    """One line: which teacher rescues most, and from which most was gained, where either is sure.

    That is: by `apart`, as if no two had an example in common, it is above all others; and of what
    was gained, no training stands alone.
    """
    mine = frame[frame["task"] == task].to_dict("records")
    single = any(len(row["seeds"]) < FEWEST_SEEDS for row in mine)
    teachers = counted(len({row["teacher"] for row in mine}), "teacher")
    rescuer, taught = _most(mine, "rescue"), None if single else _most(mine, "gain")
    said = [
        f"{rescuer['teacher']} rescues most ({_points(rescuer['rescue'])} points)"
        if rescuer
        else "none is shown to rescue more than the others",
        f"most was gained from {taught['teacher']} ({_points(taught['gain'])} points)"
        if taught
        else "none is shown to have taught more than the others",
    ]
    return f"{task}, {teachers}: {'; '.join(said)}."


def _most(rows: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """The row that is above those of all other teachers; None where none is for sure."""
    first = max(rows, key=lambda row: row[name].value)
    others = [row for row in rows if row["teacher"] != first["teacher"]]
    return first if all(apart(first[name], row[name]).low > 0 for row in others) else None


def _points(interval: Interval) -> str:
    return interval.points().replace("-", look.MINUS)


def _draw(flat: pd.DataFrame, marks: Marks, *, narrow: bool) -> Figure:
    width = look.COLUMN if narrow else look.PAGE
    entries = look.handles(marks, flat["method"], line=False)
    figure, (panel,) = look.grid(1, 1, (width, 2.7 + look.legend_height(entries, width)))
    panel.axhline(0, color=look.RULE, linewidth=0.7, zorder=1)
    panel.axvline(0, color=look.RULE, linewidth=0.7, zorder=1)
    rows = flat.sort_values("gain", kind="stable").to_dict("records")
    for row, corner in zip(rows, corners(rows, narrow=narrow), strict=True):
        _point(panel, row, marks[row["method"]], corner)
    panel.margins(x=MARGIN, y=0.1)
    look.at_least(panel, look.LEAST_SPAN)
    look.percent(panel)
    panel.set_xlabel("rescued by the teacher (points)")
    panel.set_ylabel("gain on test (points)")
    look.legend(figure, entries)
    return figure


def corners(rows: Sequence[Mapping[str, Any]], *, narrow: bool = False) -> list[tuple[int, int]]:
    """Where the name of each point stands, right or left (1, -1) and above or below it.

    No name lies on another or leaves the panel to its right, as far as there are corners.
    """
    across, along = (
        max(row[f"{name}_high"] for row in rows) - min(row[f"{name}_low"] for row in rows) or 1.0
        for name in ("rescue", "gain")
    )
    letter, height = NAME[narrow]
    end = max(row["rescue_high"] for row in rows) / across + MARGIN
    found: list[tuple[int, int]] = []
    boxes: list[tuple[float, ...]] = []
    for row in rows:
        x, y, width = row["rescue"] / across, row["gain"] / along, letter * len(row["teacher"])
        tried = {
            (right, above): (x, x + right * width, y, y + above * height)
            for right, above in CORNERS
        }
        corner = next(
            (
                one
                for one, box in tried.items()
                if box[1] <= end and not any(_meet(box, other) for other in boxes)
            ),
            CORNERS[0],
        )
        found.append(corner)
        boxes.append(tried[corner])
    return found


def _meet(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes, each of two ends across and two along, lie on one another."""
    return all(
        max(one[at : at + 2]) > min(other[at : at + 2])
        and max(other[at : at + 2]) > min(one[at : at + 2])
        for at in (0, 2)
    )


def _point(panel: Axes, row: Mapping[str, Any], mark: Mark, corner: tuple[int, int]) -> None:
    x, y = float(row["rescue"]), float(row["gain"])
    intervals(panel, row, "rescue", "gain", mark)
    panel.plot([x], [y], mark.marker, color=mark.colour, markersize=6.5, zorder=5)
    right, above = corner
    panel.annotate(
        str(row["teacher"]), (x, y), xytext=(5 * right, 4 * above), textcoords="offset points",
        fontsize=7, color=look.INK, ha="left" if right > 0 else "right",
        va="bottom" if above > 0 else "top",
    )  # fmt: skip
