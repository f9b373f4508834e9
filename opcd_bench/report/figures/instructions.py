"""Which instruction types were forgotten, by method."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import DrawnFigure, made
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.figures.tiles import LABEL_IN_PER_LETTER, Tile, draw_tiles, label_inches
from opcd_bench.report.figures.words import AT_RATE, measures, seeds_words

DATA = [
    "measured", "instruction", "method", "before", "after", "change", "change_low", "change_high",
    "n",
]  # fmt: skip

FEW = 30
"""Types that fewer prompts hold are not painted, whatever their change."""


def data(instructions: pd.DataFrame, task: str) -> pd.DataFrame:
    """pairwise.instructions of a task, flat, in shares; the most forgotten type first."""
    mine = instructions[instructions["task"] == task].reset_index(drop=True)
    flat = mine[["measured", "instruction", "method", "before", "after", "n"]]
    flat = flat.join(look.spread(mine, "change"))
    mean = flat.groupby(["measured", "instruction"])["change"].transform("mean")
    flat = flat.assign(mean=mean).sort_values(
        ["measured", "mean", "instruction", "method"], ignore_index=True
    )
    return flat[DATA]


def drawn(instructions: pd.DataFrame, task: str, marks: Marks) -> DrawnFigure:
    """The instruction types of a task."""
    flat = data(instructions, task)
    mine = instructions[instructions["task"] == task]
    seeds = sorted({int(seed) for found in mine["seeds"] for seed in found})
    caption = (
        "Share of the instructions of a type that were followed (strict): before training in %, "
        f"then the change in points, {AT_RATE}. The types that lost most are listed first, with "
        f"the number of prompts. {seeds_words(seeds)} Painted: at least {FEW} prompts hold "
        "the type and the interval of its change excludes 0. All else is grey: it shows where to "
        "look and proves nothing. The table has the intervals."
    )
    worst = flat.sort_values("change", kind="stable").head(5)
    said = " ".join(
        f"{marks[row.method].label} on {row.instruction}: {look.change(row.change)}."
        for row in worst.itertuples()
    )
    alt = f"{task}: change by instruction type; the largest losses: {said}"
    return made(
        task, "instructions", caption, alt, flat, lambda narrow: _draw(flat, marks, narrow=narrow)
    )


def _draw(flat: pd.DataFrame, marks: Marks, *, narrow: bool) -> Figure:
    names = measures(flat["measured"])
    methods = look.ordered(marks, flat["method"])
    kinds = {name: list(dict.fromkeys(_of(flat, name)["instruction"])) for name in names}
    labels = {name: _type_labels(_of(flat, name), kinds[name]) for name in names}
    full = look.COLUMN if narrow else look.PAGE
    longest = max(len(text) for found in labels.values() for text in found)
    label = (0.05 if narrow else LABEL_IN_PER_LETTER) * longest + 0.2
    tile = min(0.6, (full - label) / (len(methods) + 1))
    columns = ["before", *(marks[method].label for method in methods)]
    above = label_inches(columns) + 0.3
    heights = [0.2 * len(kinds[name]) + above for name in names]
    figure = Figure(figsize=(min(full, label + tile * len(columns)), sum(heights)),
                    layout="constrained")  # fmt: skip
    axes = figure.subplots(len(names), 1, squeeze=False, height_ratios=heights)
    for panel, name in zip(axes.flat, names, strict=True):
        part = _of(flat, name).set_index(["instruction", "method"])
        tiles = {}
        for i, kind in enumerate(kinds[name]):
            before = float(part.loc[kind, "before"].iloc[0])
            tiles[i, 0] = Tile(np.nan, look.points(before, decimals=0), plain=True)
            for j, method in enumerate(methods, 1):
                found = (kind, method) in part.index
                tiles[i, j] = tile_of(part.loc[(kind, method)]) if found else Tile(np.nan, "·")
        draw_tiles(panel, tiles, labels[name], columns, tile)
        if narrow:
            panel.tick_params(axis="y", labelsize=6)
        if len(names) > 1:
            panel.set_title(name)
    return figure


def tile_of(row: pd.Series) -> Tile:
    """The tile of a type and a method; a dot where nothing was scored."""
    change, low, high = (float(row[name]) for name in ("change", "change_low", "change_high"))
    if np.isnan(change):
        return Tile(np.nan, "·")
    sure = row["n"] >= FEW and (low > 0 or high < 0)
    return Tile(change, look.points(change, signed=True, decimals=0), sure=bool(sure))


def _of(flat: pd.DataFrame, name: str) -> pd.DataFrame:
    return flat[flat["measured"] == name]


def _type_labels(part: pd.DataFrame, kinds: Sequence[str]) -> list[str]:
    """Without the family where that leaves no doubt, with the number of prompts."""
    n = part.groupby("instruction")["n"].max()
    short = [kind.rpartition(":")[2] for kind in kinds]
    texts = [s if short.count(s) == 1 else kind for s, kind in zip(short, kinds, strict=True)]
    return [
        f"{text.replace('_', ' ')} ({n[kind]})" for text, kind in zip(texts, kinds, strict=True)
    ]
