"""The summary: gain, efficiency and retention of every method on every task, with groups."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from opcd_bench.config import measures
from opcd_bench.report.analysis import statistics
from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import DrawnFigure, made
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.figures.words import AT_RATE, listed, summed_seeds

KIND = "summary"
DATA = [
    "task", "measured", "kind", "unit", "method", "control", "value", "value_low", "value_high",
    "letters", "best", "gap",
]  # fmt: skip
TITLES = {"gain": "gain on test", "efficiency": "efficiency"}
TITLE = 16
"""Letters of a title side by side."""
ACROSS = 5
"""Panels side by side on a page; two on a phone."""
ROW, ABOVE, BETWEEN = 0.185, 0.42, 0.42
"""Inches: of a method, and above and between the panels of a task."""
LETTERS, NARROW_LETTERS = 30, 24
"""Of a line of a method's name."""
LINE = 0.11
"""Inches of such a line."""


def data(
    groups: pd.DataFrame, gaps: Mapping[str, float], marks: Marks, tasks: Sequence[str]
) -> pd.DataFrame:
    """groups.groups, flat, tasks and methods in their order; columns `DATA`.

    ``gap``: of gains, what the in-context teacher has over the base (``gaps``: by task).
    """
    flat = groups.drop(columns="value").join(look.spread(groups, "value"))
    places = {name: number for number, name in enumerate(marks)}
    order = {name: number for number, name in enumerate(tasks)}
    measured = {key: at for at, key in enumerate(dict.fromkeys(flat["measured"]))}
    flat = flat.assign(
        gap=[
            gaps.get(task, np.nan) if kind == "gain" else np.nan
            for task, kind in zip(flat["task"], flat["kind"], strict=True)
        ],
        at=[
            (order[task], measured[name], places[method])
            for task, name, method in zip(
                *(flat[column] for column in ("task", "measured", "method")), strict=True
            )
        ],
    )
    return flat.sort_values("at", ignore_index=True)[DATA]


def drawn(
    groups: pd.DataFrame, gaps: Mapping[str, float], marks: Marks, tasks: Sequence[str]
) -> DrawnFigure:
    """The figure of all tasks."""
    flat = data(groups, gaps, marks, tasks)
    seeds = [len(found) for found in groups["seeds"]]
    confidence = f"{statistics.CONFIDENCE:.0%}"
    caption = (
        f"Each method on each measure, {AT_RATE}, with {confidence} intervals. Gain on test over "
        "the base, in points; dashed: the in-context teacher. Efficiency: mean height of the "
        "learning curve, in % of the gap to the in-context teacher. Then the change of what was "
        "never trained on. Methods that share a letter are not separated (corrected over all "
        "pairs, measures and tasks); a is the best group. Without letters: no two are "
        f"separated. {summed_seeds(seeds)}"
    )
    return made("", KIND, caption, _said(flat, marks), flat,
                lambda narrow: _draw(flat, marks, narrow=narrow))  # fmt: skip


def _said(flat: pd.DataFrame, marks: Marks) -> str:
    parts = []
    for (task, name), part in flat.groupby(["task", "measured"], sort=False):
        each = [
            f"{marks[row.method].label} {_value(row.value, row.unit)}"
            + (f" ({row.letters})" if row.letters else "")
            for row in part.itertuples()
        ]
        parts.append(f"{task}, {_title(str(name), part['kind'].iloc[0])}: {listed(each)}.")
    return " ".join(parts)


def _value(value: float, unit: str) -> str:
    return f"{value:.3f}" if unit == "nats" else look.change(value)


def _title(measured: str, kind: str) -> str:
    return TITLES.get(kind, measures.title(measured))


def _draw(flat: pd.DataFrame, marks: Marks, *, narrow: bool) -> Figure:
    of_task = [part for _, part in flat.groupby("task", sort=False)]
    across = 2 if narrow else min(ACROSS, max(part["measured"].nunique() for part in of_task))
    letters = NARROW_LETTERS if narrow else LETTERS
    labels = {name: look.wrapped(mark.label, letters) for name, mark in marks.items()}
    heights = [_height(part, across, labels) for part in of_task]
    layout = ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.04, wspace=0.02, hspace=0.03)
    figure = Figure(figsize=(look.COLUMN if narrow else look.PAGE, sum(heights)), layout=layout)
    blocks = figure.subfigures(len(of_task), 1, height_ratios=heights, squeeze=False)
    for block, part in zip(blocks.flat, of_task, strict=True):
        task = str(part["task"].iloc[0])
        block.suptitle(task, x=0.012, ha="left", fontsize=9, fontweight="bold", color=look.INK)
        _block(block, part, marks, labels, across, narrow=narrow)
    return figure


def _height(part: pd.DataFrame, across: int, labels: Mapping[str, str]) -> float:
    rows = look.rows_of(part["measured"].nunique(), across)
    most = max(1 + labels[name].count("\n") for name in part["method"])
    row = ROW if most == 1 else LINE * most + 0.03
    return ABOVE + rows * (row * len(_lines(part)) + BETWEEN + 0.2)


def _lines(part: pd.DataFrame) -> list[str | None]:
    """The methods from the top down; None is the gap above the controls."""
    controls = list(dict.fromkeys(part.loc[part["control"].astype(bool), "method"]))
    others = [name for name in dict.fromkeys(part["method"]) if name not in controls]
    return [*others, *([None] if others and controls else []), *controls]


def _block(
    block: SubFigure,
    part: pd.DataFrame,
    marks: Marks,
    labels: Mapping[str, str],
    across: int,
    *,
    narrow: bool,
) -> None:
    panels = [panel for _, panel in part.groupby("measured", sort=False)]
    lines = _lines(part)
    axes = block.subplots(look.rows_of(len(panels), across), across, squeeze=False)
    flat = list(axes.flat)
    for spare in flat[len(panels) :]:
        spare.remove()
    for number, (axis, panel) in enumerate(zip(flat, panels, strict=False)):
        _panel(axis, panel, lines, marks, narrow=narrow)
        first = number % across == 0
        shown = [labels[name] if first and name is not None else "" for name in lines]
        axis.set_yticks(range(len(lines)), shown, linespacing=0.95)


def _apart(panel: pd.DataFrame) -> bool:
    """Whether any two methods of a panel are separated; those that are not compared have none."""
    lettered = panel.loc[~panel["control"] & (panel["letters"] != ""), "letters"]
    return bool(lettered.nunique() > 1)


def _panel(
    axis: Axes, panel: pd.DataFrame, lines: Sequence[str | None], marks: Marks, *, narrow: bool
) -> None:
    first, apart = panel.iloc[0], _apart(panel)
    axis.axvline(0, color=look.RULE, linewidth=0.8, zorder=1)
    if not np.isnan(first["gap"]):
        axis.axvline(first["gap"], color=look.MUTED, linewidth=0.9, linestyle="--", zorder=1)
    for row in panel.to_dict("records"):
        mark, y = marks[row["method"]], lines.index(row["method"])
        if not np.isnan([row["value_low"], row["value_high"]]).any():
            axis.plot([row["value_low"], row["value_high"]], [y, y], color=mark.colour, zorder=2)
        axis.plot([row["value"]], [y], mark.marker, color=mark.colour, markersize=5, zorder=3)
        axis.annotate(
            row["letters"] if apart else "", (1.0, y), xycoords=("axes fraction", "data"),
            xytext=(2, 0), textcoords="offset points", va="center", ha="left", fontsize=6.5,
            color=look.INK if row["best"] else look.MUTED,
            fontweight="bold" if row["best"] else "normal",
        )  # fmt: skip
    axis.set_ylim(len(lines) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    _unit(axis, first, narrow=narrow)


def _unit(axis: Axes, first: pd.Series, *, narrow: bool) -> None:
    title = textwrap.fill(_title(first["measured"], first["kind"]), TITLE)
    axis.set_title(title, fontsize=7.5)
    if first["unit"] == "nats":
        axis.xaxis.set_major_locator(MaxNLocator(3, steps=look.STEPS_OF_NUMBERS))
        axis.set_xlabel("change (nats)", fontsize=7)
        return
    low, high = axis.get_xlim()
    if high - low < look.LEAST_SPAN:
        spare = (look.LEAST_SPAN - (high - low)) / 2
        axis.set_xlim(low - spare, high + spare)
    look.percent(axis, "x", most=3 if narrow else 4)
    words = {"gain": "points", "efficiency": "% of the gap"}
    axis.set_xlabel(words.get(first["kind"], "change (points)"), fontsize=7)
