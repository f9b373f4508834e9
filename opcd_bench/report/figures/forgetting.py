"""The forgetting plot: what each method gained on test against what it forgot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import SCREEN_DPI, DrawnFigure, made
from opcd_bench.report.figures.plane import compared, faint, plane
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.figures.words import (
    AT_RATE,
    faint_words,
    interval_words,
    items,
    listed,
    summed_seeds,
)

DATA = [
    "measured", "method", "learning_rate", "seed", "gain", "gain_low", "gain_high", "gap_closed",
    "gap_closed_low", "gap_closed_high", "change", "change_low", "change_high", "pareto",
]  # fmt: skip
RING: Mapping[str, Any] = {
    "linestyle": "", "marker": "o", "markerfacecolor": "none", "markeredgecolor": look.MUTED,
    "markeredgewidth": 0.9,
}  # fmt: skip


def data(points: pd.DataFrame, task: str) -> pd.DataFrame:
    """forgetting.points of a task, flat, in shares; ``seed`` is empty for all seeds together."""
    mine = points[points["task"] == task].reset_index(drop=True)
    flat = mine[["measured", "method", "learning_rate", "seed", "pareto"]]
    for column in ("gain", "gap_closed", "change"):
        flat = flat.join(look.spread(mine, column))
    return flat[DATA]


def drawn(points: pd.DataFrame, task: str, marks: Marks) -> DrawnFigure:
    """The figure of a task."""
    flat = data(points, task)
    seeds = sorted({int(seed) for seed in flat["seed"].dropna()})
    whole = flat[flat["seed"].isna()]
    mine = points[points["task"] == task]
    counts = seeds_of(points, task)
    over = f"{items(mine['gain'], 'test item')} and {items(mine['change'], 'retention item')}"
    caption = (
        "Gain on test against change in retention, in points against the base (+ at the origin), "
        f"{AT_RATE} and at the step chosen on dev. Solid: all seeds together, with "
        f"{interval_words(over, counts.values())}.{faint_words(seeds)} Ring: on the "
        f"Pareto front, by the values and not by the intervals. {summed_seeds(counts.values())}"
    )
    said = " ".join(
        f"{marks[row.method].label}: {look.change(row.gain)} points gained, "
        f"{row.measured} {look.change(row.change)}."
        for row in whole.itertuples()
    )
    measured = sorted(set(flat["measured"]))
    alt = f"{task}: gain on test against change in {listed(measured)}. {said}"
    return made(
        task, "forgetting", caption, alt, flat, lambda narrow: _draw(flat, marks, narrow=narrow)
    )


def seeds_of(points: pd.DataFrame, task: str) -> dict[str, int]:
    """Method -> how many seeds stand behind its point in forgetting.points of a task."""
    single = points[(points["task"] == task) & points["seed"].notna()]
    return {str(name): int(n) for name, n in single.groupby("method")["seed"].nunique().items()}


def figure(points: pd.DataFrame, task: str, marks: Marks) -> Figure:
    """The figure of a task by itself: on white, to be shown in a notebook or saved."""
    with look.style():
        drawing = _draw(data(points, task), marks, narrow=False)
    drawing.set_facecolor("white")
    drawing.set_dpi(SCREEN_DPI)
    return drawing


def _draw(flat: pd.DataFrame, marks: Marks, *, narrow: bool) -> Figure:
    together = flat["seed"].isna()

    def draw(panel: Axes, part: pd.DataFrame) -> None:
        whole, seeds = part[part["seed"].isna()], part[part["seed"].notna()]
        for method in look.ordered(marks, part["method"]):
            mine = seeds[seeds["method"] == method]
            if mine["seed"].nunique() > 1:
                faint(panel, mine, marks[method])
            compared(panel, whole[whole["method"] == method], marks[method])
        front = whole[whole["pareto"]]
        panel.plot(front["gain"], front["change"], **RING, markersize=11, zorder=3)

    handles = look.handles(marks, flat["method"], line=False)
    handles.append(Line2D([], [], **RING, markersize=8, label="on the Pareto front"))
    return plane(flat, together, handles, draw, "gain on test (points)", narrow=narrow)
