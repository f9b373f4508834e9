"""Training curves: a panel a metric, against training steps."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from opcd_bench.report.analysis.curves import METRICS
from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import DrawnFigure, made
from opcd_bench.report.figures.steps import lines
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.figures.words import (
    AT_RATE,
    divergence_words,
    lines_words,
    listed,
    seeds_words,
)

DATA = ["metric", "kind", "method", "learning_rate", "seed", "step", "tokens", "value"]
LOGARITHMIC = {"divergence", "reverse_kl", "grad_norm", "leak"}
"""Metrics that fall by orders of magnitude: on a log axis where all that is drawn is positive."""
ROUNDING = 1e-8
"""Of the largest value; what is smaller is a nought of float32, and a log axis would be its."""
MANY_STEPS = 8
"""Above as many points a line, no markers."""


def data(curves: pd.DataFrame, task: str) -> pd.DataFrame:
    """curves.curves of the runs at a task's headline rates, and their means over seeds.

    ``seed`` is empty for the mean, which stands at steps that every seed of the method has.
    """
    mine = _of_headline(curves, task)[DATA].astype({"seed": object, "kind": object})
    keys = ["metric", "method", "learning_rate"]
    expected = mine.groupby(keys)["seed"].transform("nunique")
    have = mine.groupby([*keys, "step"])["seed"].transform("nunique")
    full = mine[have == expected]
    means = full.groupby([*keys, "step"], as_index=False, sort=True).agg(
        {"kind": "first", "tokens": "mean", "value": "mean"}
    )
    both = pd.concat([means.assign(seed=None)[DATA].astype({"seed": object}), mine])
    order = {metric: number for number, metric in enumerate(METRICS)}
    both = both.assign(order=both["metric"].map(order))
    both = both.sort_values(["order", "method", "step"], kind="stable", ignore_index=True)
    return both[DATA]


def _of_headline(curves: pd.DataFrame, task: str) -> pd.DataFrame:
    return curves[(curves["task"] == task) & curves["headline"]]


def drawn(curves: pd.DataFrame, task: str, marks: Marks) -> DrawnFigure:
    """The figure of a task."""
    flat = data(curves, task)
    seeds = sorted({int(seed) for seed in flat["seed"].dropna()})
    shown = [metric for metric in METRICS if metric in set(flat["metric"])]
    kinds = flat[flat["metric"] == "divergence"].groupby("method")["kind"].first()
    of_kind: dict[str, list[str]] = {}
    for method in look.ordered(marks, kinds.index):
        of_kind.setdefault(kinds[method], []).append(marks[method].label)
    named = "; ".join(
        f"{divergence_words(kind)} of {listed(labels)}" for kind, labels in of_kind.items()
    )
    caption = (
        f"What was logged during training, against training step, {AT_RATE}. {lines_words(seeds)} "
        f"No interval is drawn. {seeds_words(seeds, drawn=False)}"
    )
    size = int(_of_headline(curves, task)["averaged_steps"].max())
    if size > 1:
        caption += f" A point is the mean over {size} steps, where each was logged."
    if named:
        caption += f" Divergence, each of its own kind: {named}."
    alt = (
        f"{task}: {listed([METRICS[m].label for m in shown])} against training step for "
        f"{listed(look.labels(marks, flat['method']))}; the CSV beside it has the means, "
        "and data/curves.csv.gz each seed."
    )
    # Of single seeds the lines are in data/curves.csv.gz, which would be here a second time.
    means = flat[flat["seed"].isna()].drop(columns="seed")
    return made(
        task, "curves", caption, alt, means,
        lambda narrow: _draw(flat, shown, marks, narrow=narrow),
    )  # fmt: skip


def _draw(
    flat: pd.DataFrame,
    shown: list[str],
    marks: Marks,
    *,
    narrow: bool,
) -> Figure:
    across = min(2 if narrow else 3, len(shown))
    handles = look.handles(marks, flat["method"])
    figure, axes = _grid(len(shown), across, handles, narrow=narrow)
    for panel, metric in zip(axes, shown, strict=True):
        part = flat[flat["metric"] == metric]
        part = part.rename(columns={"step": "x"})
        few = part.groupby(["method", "seed"], dropna=False).size().max() <= MANY_STEPS
        lines(panel, part, marks, markers=bool(few))
        _axes(panel, metric, part, narrow=narrow)
    for panel in axes[-across:]:
        panel.set_xlabel("training step")
    look.legend(figure, handles)
    return figure


def _grid(
    panels: int, across: int, handles: Sequence[Line2D], *, narrow: bool
) -> tuple[Figure, list[Axes]]:
    """Panels at fixed places, in inches: to lay out so many by their words takes seconds."""
    width, left, right, between = look.COLUMN if narrow else look.PAGE, 0.52, 0.1, 0.56
    high, above, gap = 1.02, 0.4 if narrow else 0.24, 0.62 if narrow else 0.46
    rows = look.rows_of(panels, across)
    below = 0.45 + look.legend_height(handles, width)
    height = above + rows * high + (rows - 1) * gap + below
    wide = (width - left - right - (across - 1) * between) / across
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        top=1 - above / height,
        bottom=below / height,
        wspace=between / wide,
        hspace=gap / high,
    )
    return figure, [figure.add_subplot(rows, across, number + 1) for number in range(panels)]


def _window(shares: pd.Series) -> tuple[float, float]:
    """Limits of an axis of shares: at least five points, and little beyond 0 and 1."""
    low, high = float(shares.min()), float(shares.max())
    if high - low < 0.05:
        low = min(max((low + high) / 2 - 0.025, 0.0), 0.95)
        high = low + 0.05
    room = 0.05 * (high - low)
    return low - room, high + room


def _axes(panel: Axes, metric: str, part: pd.DataFrame, *, narrow: bool) -> None:
    label = METRICS[metric].label
    panel.set_title(textwrap.fill(label, 19 if narrow else 34), fontsize=7 if narrow else 7.5)
    if metric in LOGARITHMIC and part["value"].min() > ROUNDING * part["value"].max():
        panel.set_yscale("log")
        panel.minorticks_off()
    elif label.endswith("(%)"):
        panel.set_ylim(*_window(part["value"]))
        look.percent(panel, "y", most=5)
    else:
        panel.yaxis.set_major_locator(MaxNLocator(5, steps=look.STEPS_OF_NUMBERS))
        panel.ticklabel_format(axis="y", style="plain", useOffset=False)
    panel.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
