"""Dose and response: damage against the mass gradient that truncated losses added up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import DrawnFigure, made
from opcd_bench.report.figures.style import Mark, Marks
from opcd_bench.report.figures.words import (
    faint_words,
    interval_words,
    items,
    listed,
    summed_seeds,
)

KIND = "doses"
DATA = [
    "learning_rate", "method", "seed", "step", "takes", "dose", "spared", "damage",
    "damage_low", "damage_high",
]  # fmt: skip
HOLLOW: Mapping[str, Any] = {
    "linestyle": "", "marker": "o", "markerfacecolor": "none", "markeredgecolor": look.MUTED,
}  # fmt: skip
PANEL_HEIGHT = 2.5
DECADES = 10.0
"""Doses whose largest is so many times the smallest stand on a logarithmic axis."""


def data(doses: pd.DataFrame, task: str) -> pd.DataFrame:
    """doses.doses of a task, flat, in shares; ``seed`` is empty for all seeds together."""
    mine = doses[doses["task"] == task].reset_index(drop=True)
    flat = mine.drop(columns="damage").join(look.spread(mine, "damage"))
    return flat[DATA]


def drawn(doses: pd.DataFrame, task: str, marks: Marks) -> DrawnFigure:
    """The figure of a task: a panel a learning rate."""
    flat = data(doses, task)
    mine = doses[doses["task"] == task]
    seeds = sorted({int(seed) for seed in flat["seed"].dropna()})
    counts = list(map(len, mine.loc[mine["seed"].isna(), "seeds"]))
    caption = (
        "Damage against dose. Damage: accuracy of the full reverse KL minus that of the method, on "
        "test, in points, paired by example, seed and step. Dose: the sum over the optimiser steps "
        "of the size of the gradient of the student's mass on the support, by that of the gradient "
        "that a stop-gradient keeps. Hollow: a loss whose gradient has no such part, at the dose "
        f"that it was spared. Large: all seeds together, with "
        f"{interval_words(items(mine['damage'], 'test item'), counts)}.{faint_words(seeds)} "
        f"{summed_seeds(counts)}"
    )
    said = " ".join(
        f"{marks[row.method].label}: {'dose' if row.takes else 'spared'} "
        f"{row.dose + row.spared:.3g}, damage "
        f"{look.change(row.damage)} points."
        for row in flat[flat["seed"].isna()].itertuples()
    )
    methods = look.labels(marks, flat["method"])
    alt = f"{task}: damage against the dose of the mass gradient for {listed(methods)}. {said}"
    return made(task, KIND, caption, alt, flat, lambda narrow: _draw(flat, marks, narrow=narrow))


def _draw(flat: pd.DataFrame, marks: Marks, *, narrow: bool) -> Figure:
    rates = sorted(set(flat["learning_rate"]))
    across = 1 if narrow or len(rates) == 1 else 2
    width = look.COLUMN if narrow else look.PAGE
    handles = look.handles(marks, flat["method"], line=False)
    spared = set(look.labels(marks, flat.loc[~flat["takes"], "method"]))
    for handle in handles:
        if handle.get_label() in spared:
            handle.set_markerfacecolor("none")
    if spared:
        handles.append(Line2D([], [], **HOLLOW, label="hollow: at the dose that it was spared"))
    height = PANEL_HEIGHT * look.rows_of(len(rates), across) + look.legend_height(handles, width)
    figure, axes = look.grid(len(rates), across, (width, height))
    for panel, rate in zip(axes, rates, strict=True):
        part = flat[flat["learning_rate"] == rate]
        panel.axhline(0, color=look.RULE, linewidth=0.7, zorder=1)
        for method in look.ordered(marks, part["method"]):
            _points(panel, part[part["method"] == method], marks[method])
        _axes(panel, part["dose"] + part["spared"])
        if len(rates) > 1:
            panel.set_title(f"learning rate {rate:g}")
    look.legend(figure, handles)
    return figure


def _points(panel: Axes, rows: pd.DataFrame, mark: Mark) -> None:
    """All seeds together, large and with its interval; before it, small, the single ones."""
    rows = rows.assign(x=rows["dose"] + rows["spared"])
    inside = mark.colour if rows["takes"].all() else "none"
    single, (whole,) = rows[rows["seed"].notna()], rows[rows["seed"].isna()].to_dict("records")
    if len(single) > 1:
        panel.plot(
            single["x"], single["damage"], mark.marker, color=mark.colour, markerfacecolor=inside,
            alpha=0.4, markersize=3.5, zorder=2,
        )  # fmt: skip
    ends = [whole["damage_low"], whole["damage_high"]]
    if not np.isnan(ends).any():
        panel.plot([whole["x"]] * 2, ends, color=mark.colour, linewidth=1.0, zorder=4)
    panel.plot(
        [whole["x"]], [whole["damage"]], mark.marker, color=mark.colour, markersize=6.5,
        markerfacecolor=inside, markeredgewidth=1.2, zorder=5,
    )  # fmt: skip


def _axes(panel: Axes, doses: pd.Series) -> None:
    """Of doses that differ much a logarithmic axis; with those of 0 it is linear next to 0."""
    above = doses[doses > 0]
    if len(above) and above.max() > DECADES * above.min():
        if (doses > 0).all():
            panel.set_xscale("log")
            few = above.max() < 1000 * above.min()
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=8))
            panel.xaxis.set_minor_formatter(NullFormatter())
        else:
            panel.set_xscale("symlog", linthresh=float(above.min()), linscale=0.5)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.set_xlabel("dose (sum of leak / signal)")
    panel.set_ylabel("damage (points)")
    look.at_least(panel, look.LEAST_SPAN)
    look.percent(panel, "y", signed=True)
