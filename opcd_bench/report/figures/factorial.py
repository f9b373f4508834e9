"""Effects of a method's choices with their intervals: a forest plot, a panel a measure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import DrawnFigure, made
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.figures.words import (
    AT_RATE,
    effect_notes,
    factor_words,
    interval_words,
    levels_words,
    measures,
    summed_seeds,
)

DATA = [
    "measured", "factor", "levels", "methods", "seeds", "effect", "effect_low",
    "effect_high", "row",
]  # fmt: skip
EFFECT = look.COLOURS[0]
WIDE_LETTERS, NARROW_LETTERS = 44, 30
"""A line of methods below a label."""


def data(effects: pd.DataFrame, task: str) -> pd.DataFrame:
    """factorial.effects of a task, flat, in shares; ``row`` is where it stands, 0 on top.

    ``seeds``: how many it rests on.
    """
    mine = effects[effects["task"] == task].reset_index(drop=True)
    flat = mine[["measured", "factor", "levels", "methods"]].join(look.spread(mine, "effect"))
    keys = list(zip(flat["factor"], flat["levels"], flat["methods"], strict=True))
    rows = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    flat = flat.assign(
        methods=[", ".join(methods) for methods in flat["methods"]],
        row=[rows[key] for key in keys],
        seeds=list(map(len, mine["seeds"])),
    )
    return flat[DATA]


def drawn(effects: pd.DataFrame, task: str, marks: Marks) -> DrawnFigure:
    """The figure of a task."""
    flat = data(effects, task)
    mine = effects[effects["task"] == task]
    hollow = " Hollow: one seed." if _mixed(flat) else ""
    caption = (
        "Effect of one choice on accuracy on test and on retention after training, in points, with "
        f"{interval_words('examples', flat['seeds'])}, paired by example and seed, {AT_RATE}. "
        "Below each effect: the methods that it is computed from. An interaction is 0 where two "
        "effects add up. Not corrected for the number of effects. "
        f"{summed_seeds(flat['seeds'])}{hollow}"
    )
    if note := effect_notes(mine, marks):
        caption += f" {note}"
    said = " ".join(
        f"{factor_words(row.factor)} ({levels_words(row.factor, row.levels)}) on {row.measured}: "
        f"{look.change(row.effect)}."
        for row in flat.itertuples()
    )
    alt = f"{task}: effects of the methods' choices. {said}"
    named = {", ".join(names): ", ".join(look.labels(marks, names)) for names in mine["methods"]}
    return made(
        task, "factorial", caption, alt, flat, lambda narrow: _draw(flat, named, narrow=narrow)
    )


def _draw(flat: pd.DataFrame, named: Mapping[str, str], *, narrow: bool) -> Figure:
    """``named``: the methods of an effect as they are stored -> as readers know them."""
    flat = flat.assign(methods=flat["methods"].map(named))
    names = measures(flat["measured"])
    rows = int(flat["row"].max()) + 1
    across = 1 if narrow else min(len(names), 3)
    letters = NARROW_LETTERS if narrow else WIDE_LETTERS
    lines = [max(len(text.split("\n")) for text in part) for part in _texts(flat, letters)]
    height = look.rows_of(len(names), across) * (0.11 * (1 + sum(lines)) * rows + 0.65)
    figure, axes = look.grid(len(names), across, (look.COLUMN if narrow else look.PAGE, height))
    for number, (panel, name) in enumerate(zip(axes, names, strict=True)):
        part = flat[flat["measured"] == name]
        _panel(panel, part, rows, ticks=3 if narrow else 5, mixed=_mixed(flat))
        panel.set_title(name)
        panel.set_xlabel("effect (points)")
        if number % across == 0:
            _labels(panel, flat, letters)
        else:
            panel.set_yticks(range(rows), [""] * rows)
    return figure


def _mixed(flat: pd.DataFrame) -> bool:
    """Whether some rest on one seed, whose intervals say less, and others on several."""
    return bool((flat["seeds"] > 1).nunique() > 1)


def _panel(panel: Axes, part: pd.DataFrame, rows: int, *, ticks: int, mixed: bool) -> None:
    panel.axvline(0, color=look.RULE, linewidth=0.9, zorder=1)
    for row in part.itertuples():
        if not np.isnan(row.effect_low):
            panel.plot([row.effect_low, row.effect_high], [row.row] * 2, color=EFFECT, zorder=2)
        inside = "none" if mixed and row.seeds == 1 else EFFECT
        panel.plot([row.effect], [row.row], "o", color=EFFECT, markerfacecolor=inside, zorder=3)
    panel.set_ylim(rows - 0.5, -0.5)
    panel.grid(visible=False, axis="y")
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    look.percent(panel, "x", most=ticks, signed=True)


def _labels(panel: Axes, flat: pd.DataFrame, letters: int) -> None:
    """The factor and its levels; below, smaller, the methods."""
    each = flat.drop_duplicates("row").sort_values("row")
    panel.set_yticks(each["row"], [""] * len(each))
    for at, head, body in zip(each["row"], *_texts(each, letters), strict=True):
        panel.annotate(
            head, (0, at), xycoords=("axes fraction", "data"), xytext=(-6, 1),
            textcoords="offset points", ha="right", va="bottom", fontsize=7, in_layout=True,
        )  # fmt: skip
        panel.annotate(
            body, (0, at), xycoords=("axes fraction", "data"), xytext=(-6, -1),
            textcoords="offset points", ha="right", va="top", fontsize=6, color=look.MUTED,
        )  # fmt: skip


def _texts(flat: pd.DataFrame, letters: int) -> tuple[list[str], list[str]]:
    """Of each row the factor and its levels, and the methods, in lines of so many small letters."""
    of_head = letters * 6 // 7
    heads = [label(row.factor, row.levels) for row in flat.itertuples()]
    return (
        [look.wrapped(head, of_head) for head in heads],
        [look.wrapped(methods, letters) for methods in flat["methods"]],
    )


def label(factor: str, levels: str) -> str:
    """``rollout policy: student − in-context teacher``; an interaction by its factors alone."""
    if " x " in factor:
        return factor_words(factor)
    return f"{factor_words(factor)}: {levels_words(factor, levels)}"
