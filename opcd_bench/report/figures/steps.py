"""Retention against training step, so that it shows when a method forgets."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import DrawnFigure, made
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.figures.words import AT_RATE, lines_words, listed, seeds_words

DATA = ["measured", "method", "learning_rate", "seed", "step", "value", "change"]


def data(by_step: pd.DataFrame, task: str) -> pd.DataFrame:
    """forgetting.by_step of a task, in shares, with the mean over seeds (``seed`` empty) beside it.

    A mean stands only at steps that every seed of the method evaluated.
    """
    mine = by_step[by_step["task"] == task][DATA].astype({"seed": object})
    keys = ["measured", "method", "learning_rate"]
    means = []
    for key, part in mine.groupby(keys, sort=True):
        seeds = part["seed"].nunique()
        for step, at in part.groupby("step", sort=True):
            if at["seed"].nunique() == seeds:
                row = {**dict(zip(keys, key, strict=True)), "seed": None, "step": step}
                means.append({**row, "value": at["value"].mean(), "change": at["change"].mean()})
    both = pd.concat([pd.DataFrame(means, columns=DATA).astype({"seed": object}), mine])
    both = both.sort_values(["measured", "method", "step"], kind="stable", ignore_index=True)
    return both[DATA]


def drawn(by_step: pd.DataFrame, task: str, marks: Marks) -> DrawnFigure:
    """The figure of a task."""
    flat = data(by_step, task)
    seeds = sorted({int(seed) for seed in flat["seed"].dropna()})
    caption = (
        f"Retention of the student during training, in % of the items, {AT_RATE}. "
        f"{lines_words(seeds)} Dashed: the base. No interval is drawn; the forgetting plot has "
        f"them. {seeds_words(seeds, drawn=False)}"
    )
    last = flat[flat["seed"].isna()].groupby(["measured", "method"]).tail(1)
    said = " ".join(
        f"{marks[row.method].label} on {row.measured}: {look.change(row.change)} "
        f"points by step {row.step}."
        for row in last.itertuples()
    )
    measured = sorted(set(flat["measured"]))
    alt = f"{task}: {listed(measured)} against training step. {said}"
    return made(
        task, "retention-steps", caption, alt, flat,
        lambda narrow: _draw(flat, marks, narrow=narrow),
    )  # fmt: skip


def _draw(flat: pd.DataFrame, marks: Marks, *, narrow: bool) -> Figure:
    measured = sorted(set(flat["measured"]))
    handles = look.handles(marks, flat["method"])
    across = 1 if narrow or len(measured) == 1 else 2
    width = look.COLUMN if across == 1 else look.PAGE
    height = 2.3 * look.rows_of(len(measured), across) + look.legend_height(handles, width)
    figure, axes = look.grid(len(measured), across, (width, height))
    for panel, name in zip(axes, measured, strict=True):
        part = flat[flat["measured"] == name]
        lines(panel, part.rename(columns={"step": "x"}), marks)
        base = part.loc[part["step"] == 0, "value"]
        if len(base):
            panel.axhline(
                float(base.mean()), color=look.MUTED, linestyle="--", linewidth=0.9, zorder=1
            )
        panel.set_title(name)
        panel.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        panel.set_xlabel("training step")
        panel.set_ylabel("retention (%)")
        look.at_least(panel, look.LEAST_SPAN)
        look.percent(panel, "y")
    look.legend(figure, handles)
    return figure


def lines(panel: Axes, part: pd.DataFrame, marks: Marks, *, markers: bool = True) -> None:
    """``value`` against ``x``: solid where ``seed`` is empty (the mean), faint for each seed."""
    for method in look.ordered(marks, part["method"]):
        mark = marks[method]
        mine = part[part["method"] == method]
        single = mine[mine["seed"].notna()]
        if single["seed"].nunique() > 1:
            for _, one in single.groupby("seed", sort=True):
                panel.plot(one["x"], one["value"], color=mark.colour, alpha=0.3, linewidth=0.7,
                           linestyle=mark.line)  # fmt: skip
        mean = mine[mine["seed"].isna()]
        panel.plot(
            mean["x"], mean["value"], color=mark.colour, marker=mark.marker if markers else "",
            markersize=4, linestyle=mark.line,
        )  # fmt: skip
