"""The main figure: gain against forgetting over the whole sweep, one frontier a method."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import DrawnFigure, made
from opcd_bench.report.figures.plane import compared, faint, plane
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.figures.words import interval_words, items, listed, seeds_words

DATA = [
    "measured", "method", "learning_rate", "step", "gain", "gain_low", "gain_high", "change",
    "change_low", "change_high", "chosen", "counts", "frontier",
]  # fmt: skip


def data(points: pd.DataFrame, areas: pd.DataFrame, task: str) -> pd.DataFrame:
    """The points of a task as drawn, in shares; columns ``DATA``.

    ``points`` and ``areas``: frontier.points and frontier.areas. ``counts``: whether the point
    enters its method's area (its rate was finished by all, its step is not 0); ``frontier``:
    whether none of these points of its own method gains as much and keeps as much and is better in
    one.
    """
    mine = points[points["task"] == task].reset_index(drop=True)
    rates = {
        (row.measured, row.method): set(row.rates)
        for row in areas[areas["task"] == task].itertuples()
    }
    counts = [
        row.step > 0 and row.learning_rate in rates.get((row.measured, row.method), ())
        for row in mine.itertuples()
    ]
    flat = mine[["measured", "method", "learning_rate", "step", "chosen"]]
    flat = flat.join(look.spread(mine, "gain")).join(look.spread(mine, "change"))
    flat = flat.assign(counts=np.array(counts, dtype=bool), frontier=False)
    for _, part in flat[flat["counts"]].groupby(["measured", "method"]):
        x, y = part["gain"].to_numpy(), part["change"].to_numpy()
        as_good = (x[:, None] >= x) & (y[:, None] >= y)
        better = (x[:, None] > x) | (y[:, None] > y)
        flat.loc[part.index, "frontier"] = ~(as_good & better).any(axis=0)
    flat = flat.sort_values(["measured", "method", "learning_rate", "step"], ignore_index=True)
    return flat[DATA]


def staircase(part: pd.DataFrame) -> tuple[list[float], list[float]]:
    """The upper edge of what a method's frontier dominates, from gain 0 to its largest gain."""
    front = part[part["frontier"] & (part["gain"] > 0)].sort_values(["gain", "change"])
    if front.empty:
        return [], []
    xs, ys = [0.0], [float(front["change"].iloc[0])]
    for gain, change in zip(front["gain"], front["change"], strict=True):
        xs += [xs[-1], float(gain)]
        ys += [float(change)] * 2
    return xs, ys


def drawn(points: pd.DataFrame, areas: pd.DataFrame, task: str, marks: Marks) -> DrawnFigure:
    """The figure of a task."""
    flat = data(points, areas, task)
    mine = points[points["task"] == task]
    seeds = sorted({int(seed) for found in mine["seeds"] for seed in found})
    over = f"{items(mine['gain'], 'dev item')} and {items(mine['change'], 'retention item')}"
    caption = (
        "Gain on dev against change in retention, both in points against the base (+ at the "
        f"origin), at every learning rate and evaluated step of the sweep. {seeds_words(seeds)} "
        "Faint: every point. Stepped line: the upper edge of what a method's points dominate; "
        "the table has the hypervolume. Large: the chosen step at the learning rate at which the "
        f"method is compared, with {interval_words(over, ())}. Learning rate and step were "
        "chosen on dev, so the gains of these points are too high by selection."
    )
    methods = look.labels(marks, flat["method"])
    alt = (
        f"{task}: gain on dev against change in {listed(sorted(set(flat['measured'])))} for "
        f"{listed(methods)}. {_said(flat, marks)}"
    )
    return made(
        task, "frontier", caption, alt, flat, lambda narrow: _draw(flat, marks, narrow=narrow)
    )


def _said(flat: pd.DataFrame, marks: Marks) -> str:
    chosen = flat[flat["chosen"]]
    return " ".join(
        f"{marks[row.method].label} at its chosen point: {look.change(row.gain)} "
        f"points gained, {row.measured} {look.change(row.change)}."
        for row in chosen.itertuples()
    )


def _draw(flat: pd.DataFrame, marks: Marks, *, narrow: bool) -> Figure:
    def draw(panel: Axes, part: pd.DataFrame) -> None:
        for method in look.ordered(marks, part["method"]):
            mine, mark = part[part["method"] == method], marks[method]
            faint(panel, mine[mine["step"] > 0], mark)
            panel.plot(*staircase(mine), color=mark.colour, alpha=0.5, linewidth=2.2, zorder=3)
            compared(panel, mine[mine["chosen"]], mark)

    handles = look.handles(marks, flat["method"])
    return plane(flat, flat["chosen"], handles, draw, "gain on dev (points)", narrow=narrow)
