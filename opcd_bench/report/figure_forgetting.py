"""The forgetting plot: what each method gained on test against what it forgot."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from opcd_bench.report import figure_style as look
from opcd_bench.report.figure_files import Drawn, made
from opcd_bench.report.figure_frontier import error_bars
from opcd_bench.report.figure_style import Mark
from opcd_bench.report.figure_words import AT_RATE, counted, interval_words, listed, seeds_words

DATA = [
    "measured", "method", "learning_rate", "seed", "gain", "gain_low", "gain_high", "gap_closed",
    "gap_closed_low", "gap_closed_high", "change", "change_low", "change_high", "pareto",
]  # fmt: skip
CLOSE = 0.5
"""Methods within this share of what the panel shows are drawn once more, close up."""


def data(points: pd.DataFrame, task: str) -> pd.DataFrame:
    """forgetting.points of a task, flat, in shares; ``seed`` is empty for all seeds together."""
    mine = points[points["task"] == task].reset_index(drop=True)
    flat = mine[["measured", "method", "learning_rate", "seed", "pareto"]]
    for column in ("gain", "gap_closed", "change"):
        flat = flat.join(look.spread(mine, column))
    return flat[DATA]


def drawn(points: pd.DataFrame, task: str, marks: Mapping[str, Mark]) -> Drawn:
    """The figure of a task."""
    flat = data(points, task)
    seeds = sorted({int(seed) for seed in flat["seed"].dropna()})
    whole = flat[flat["seed"].isna()]
    mine = points[points["task"] == task]
    n = max((interval.n for interval in mine["gain"]), default=0)
    n_kept = max((interval.n for interval in mine["change"]), default=0)
    over = f"{counted(n, 'test item')} and {counted(n_kept, 'retention item')}"
    caption = (
        "Gain on test against change in retention, in points against the base (+ at the origin), "
        f"{AT_RATE} and the step that dev chose. Solid: all seeds together, with "
        f"{interval_words(over)}. Faint: a seed each. Ring: on the Pareto front, by the values and "
        f"not by the intervals. {seeds_words(seeds)}"
    )
    said = " ".join(
        f"{row.method}: {look.points(row.gain, signed=True, decimals=1)} points gained, "
        f"{row.measured} {look.points(row.change, signed=True, decimals=1)}."
        for row in whole.itertuples()
    )
    measured = sorted(set(flat["measured"]))
    alt = f"{task}: gain on test against change in {listed(measured)}. {said}"
    return made(
        task, "forgetting", caption, alt, flat, lambda narrow: _draw(flat, marks, narrow=narrow)
    )


def clustered(whole: pd.DataFrame) -> bool:
    """Whether the methods lie so near each other that a close-up tells them apart better."""
    ends = whole[["gain_low", "gain_high", "gain"]]
    wide = float(ends.max(axis=None)) - float(ends.min(axis=None))
    shown = max(float(ends.max(axis=None)), 0.0) - min(float(ends.min(axis=None)), 0.0)
    return len(whole) > 1 and wide < CLOSE * shown


def _draw(flat: pd.DataFrame, marks: Mapping[str, Mark], *, narrow: bool) -> Figure:
    measured = sorted(set(flat["measured"]))
    methods = sorted(set(flat["method"]))
    whole = flat[flat["seed"].isna()]
    close = clustered(whole)
    panels = [(name, near) for name in measured for near in ((False, True) if close else (False,))]
    across = 1 if narrow or len(panels) == 1 else 2
    handles = [look.handle(marks[method], method, line=False) for method in methods]
    handles.append(Line2D([], [], color=look.INK, marker="+", linestyle="", label="base"))
    handles.append(
        Line2D(
            [],
            [],
            color=look.MUTED,
            marker="o",
            markerfacecolor="none",
            markersize=8,
            linestyle="",
            label="on the Pareto front",
        )
    )
    width = look.COLUMN if across == 1 else look.PAGE
    height = 2.5 * look.rows_of(len(panels), across) + look.legend_height(handles, width)
    figure, axes = look.grid(len(panels), across, (width, height))
    for panel, (name, near) in zip(axes, panels, strict=True):
        _panel(panel, flat[flat["measured"] == name], marks, near=near)
        panel.set_title(f"{name}, close up" if near else name)
        panel.set_xlabel("gain on test (points)")
        panel.set_ylabel("change in retention (points)")
    look.legend(figure, handles)
    return figure


def _panel(panel: Axes, part: pd.DataFrame, marks: Mapping[str, Mark], *, near: bool) -> None:
    whole, seeds = part[part["seed"].isna()], part[part["seed"].notna()]
    panel.axhline(0, color=look.RULE, linewidth=0.7, zorder=1)
    panel.axvline(0, color=look.RULE, linewidth=0.7, zorder=1)
    for method in sorted(set(part["method"])):
        mark = marks[method]
        mine = seeds[seeds["method"] == method]
        if mine["seed"].nunique() > 1:
            panel.plot(
                mine["gain"], mine["change"], mark.marker, color=mark.colour, alpha=0.4,
                markersize=4, markeredgewidth=0, zorder=2,
            )  # fmt: skip
        error_bars(panel, whole[whole["method"] == method], "gain", "change", mark)
    front = whole[whole["pareto"]]
    panel.plot(
        front["gain"], front["change"], "o", markerfacecolor="none", markeredgecolor=look.MUTED,
        markersize=11, markeredgewidth=0.9, zorder=3,
    )  # fmt: skip
    panel.plot([0], [0], "+", color=look.INK, markersize=7, markeredgewidth=1.4, zorder=6)
    if near:
        _close_up(panel, part)
    look.at_least(panel, look.LEAST_SPAN)
    look.percent(panel)


def _close_up(panel: Axes, part: pd.DataFrame) -> None:
    for axis, set_limits in (("gain", panel.set_xlim), ("change", panel.set_ylim)):
        ends = part[[axis, *([f"{axis}_low", f"{axis}_high"])]]
        if axis == "gain":  # single seeds may be far off; the close-up is of the methods
            ends = ends[part["seed"].isna()]
        low, high = float(ends.min(axis=None)), float(ends.max(axis=None))
        if axis == "change":
            low, high = min(low, 0.0), max(high, 0.0)
        room = 0.08 * max(high - low, 0.01)
        set_limits(low - room, high + room)
