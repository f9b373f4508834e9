"""The claims of a suite: each effect with its interval, and from where on it counts."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from opcd_bench.report.analysis.claims import NOT, OPEN, REPRODUCED
from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import DrawnFigure, made

KIND = "claims"
DATA = ["claim", "contrast", "measure", "direction", "threshold", "effect", "effect_low",
        "effect_high", "word"]  # fmt: skip
COLOURS = {REPRODUCED: look.COLOURS[2], NOT: look.COLOURS[1], OPEN: look.MUTED}
SIGNS = {"above": (1,), "at most": (1,), "below": (-1,), "at least": (-1,), "alike": (-1, 1)}
"""On which sides of 0 an effect begins to count, or ceases to be none."""
MARKERS = {REPRODUCED: "o", NOT: "s", OPEN: "D"}


def data(frame: pd.DataFrame) -> pd.DataFrame:
    """The claims that have an effect, in shares."""
    spread = look.spread(frame, "effect")
    flat = pd.concat([frame.drop(columns="effect"), spread], axis=1)
    return flat.loc[flat["effect"].notna(), DATA].reset_index(drop=True)


def drawn(frame: pd.DataFrame) -> DrawnFigure | None:
    """The figure; None where no claim has an effect yet."""
    flat = data(frame)
    if flat.empty:
        return None
    caption = (
        "The effect of every claim that was run, in points, with its 95 % interval. The short bars "
        "are where an effect begins to count; of alike, at least and at most, where it ceases to "
        "be none."
    )
    said = " ".join(
        f"{row.claim} {look.change(row.effect)} points: {row.word}." for row in flat.itertuples()
    )
    return made("", KIND, caption, said, flat, lambda narrow: _draw(flat, narrow=narrow))


def _draw(flat: pd.DataFrame, *, narrow: bool) -> Figure:
    width = look.COLUMN if narrow else look.PAGE
    handles = [
        Line2D([], [], color=COLOURS[word], marker=MARKERS[word], linestyle="", label=word)
        for word in COLOURS
        if (flat["word"] == word).any()
    ]
    wrap = 30 if narrow else 62
    names = [textwrap.fill(str(claim), wrap) for claim in flat["claim"]]
    lines = sum(name.count("\n") + 2 for name in names)
    height = 0.5 + 0.13 * lines + look.legend_height(handles, width)
    figure, (panel,) = look.grid(1, 1, (width, height))
    panel.axvline(0, color=look.RULE, linewidth=0.8)
    for at, row in enumerate(flat.to_dict("records")):
        _bar(panel, at, row)
    panel.set_yticks(range(len(flat)), names)
    panel.set_ylim(len(flat) - 0.5, -0.5)
    panel.grid(visible=False, axis="y")
    panel.set_xlabel("effect (points)")
    look.percent(panel, "x", signed=True)
    look.legend(figure, handles)
    return figure


def _bar(panel: Axes, at: int, row: dict[str, float | str]) -> None:
    value, low, high = (float(row[name]) for name in ("effect", "effect_low", "effect_high"))
    word, threshold = str(row["word"]), float(row["threshold"])
    panel.plot([low, high], [at, at], color=COLOURS[word])
    panel.plot([value], [at], color=COLOURS[word], marker=MARKERS[word])
    signs = SIGNS[str(row["direction"])]
    for sign in signs if threshold else ():
        panel.plot([sign * threshold] * 2, [at - 0.3, at + 0.3], color=look.INK, linewidth=1.0)
