"""The pairwise matrix: every method minus every other, a panel a measure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from opcd_bench.report.analysis import statistics
from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import DrawnFigure, made
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.figures.tiles import Tile, draw_tiles, label_inches, lines_inches
from opcd_bench.report.figures.words import AT_RATE, listed, measures, summed_seeds

DATA = ["measured", "row", "column", "difference", "difference_low", "difference_high", "p_holm"]
SURE = 0.05
"""A difference whose corrected p is at most this is painted; all others are grey."""
WIDEST_TILE, SLIMMEST_TILE = 0.44, 0.27


def data(matrix: pd.DataFrame, task: str) -> pd.DataFrame:
    """pairwise.matrix of a task as row minus column, both ways round, in shares."""
    mine = matrix[matrix["task"] == task].reset_index(drop=True)
    there = mine[["measured", "method", "other", "p_holm"]].join(look.spread(mine, "difference"))
    there = there.rename(columns={"method": "row", "other": "column"})
    back = there.rename(columns={"row": "column", "column": "row"}).assign(
        difference=-there["difference"],
        difference_low=-there["difference_high"],
        difference_high=-there["difference_low"],
    )
    both = pd.concat([there, back])[DATA]
    return both.sort_values(["measured", "row", "column"], ignore_index=True)


def drawn(matrix: pd.DataFrame, task: str, marks: Marks) -> DrawnFigure:
    """The pairwise matrix of a task."""
    flat = data(matrix, task)
    mine = matrix[matrix["task"] == task]
    names = measures(flat["measured"])
    caption = (
        f"Method of the row minus method of the column, in points, paired by example, {AT_RATE}. "
        f"Painted: p at most {SURE:g} in a paired test after Holm's correction over all pairs, "
        "measures and tasks; pairs with a control are corrected among themselves. The variance "
        "between seeds is estimated from all pairs of a measure together (moderated t), for "
        f"effects and claims from their own seeds alone. {_single(mine)}Dot: nothing to compare. "
        "Where names have no room above the columns, these have the numbers of the rows. "
        f"{summed_seeds(map(len, mine['seeds']))}"
    )
    sure = mine[mine["p_holm"] <= SURE]
    said = " ".join(
        f"{marks[row.method].label} minus {marks[row.other].label} on {row.measured}: "
        f"{look.change(row.difference.value)}."
        for row in sure.itertuples()
    )
    alt = (
        f"{task}: differences between every two methods on {listed(names)}. "
        f"{said or 'No difference is significant after correction.'}"
    )
    return made(
        task, "pairwise", caption, alt, flat, lambda narrow: _draw(flat, marks, narrow=narrow)
    )


def _single(mine: pd.DataFrame) -> str:
    """Of pairs that share a single seed, which are tested only where no other shares more."""
    shared = mine["seeds"].map(len)
    single = shared < statistics.FEWEST_SEEDS
    if single.all() or not single.any():
        return ""
    return "Pairs that share a single seed, where others share more, are not tested. "


def _draw(flat: pd.DataFrame, marks: Marks, *, narrow: bool) -> Figure:
    names = measures(flat["measured"])
    methods = look.ordered(marks, {*flat["row"], *flat["column"]})
    labels = [marks[method].label for method in methods]
    full = look.COLUMN if narrow else look.PAGE
    label = label_inches(labels) + 0.15
    across = 1
    if not narrow:
        fitting = int((full - label) / (SLIMMEST_TILE * len(methods) + 0.1))
        across = max(1, min(len(names), fitting))
    tile = min(WIDEST_TILE, (full - label) / across / len(methods) - 0.1 / len(methods))
    high = max(0.2, min(0.26, tile), lines_inches(labels))
    decimals = 1 if tile >= SLIMMEST_TILE else 0
    heads, above = labels, label
    if tile < lines_inches(labels):
        heads, above = [str(number + 1) for number in range(len(methods))], 0.2
        labels = [f"{number} · {text}" for text, number in zip(labels, heads, strict=True)]
    height = look.rows_of(len(names), across) * (high * len(methods) + above + 0.4)
    figure, axes = look.grid(len(names), across, (full, height))
    for number, (panel, name) in enumerate(zip(axes, names, strict=True)):
        part = flat[flat["measured"] == name].set_index(["row", "column"])
        tiles = {
            (i, j): tile_of(part, a, b, decimals)
            for i, a in enumerate(methods)
            for j, b in enumerate(methods)
            if a != b
        }
        rows = labels if number % across == 0 else [""] * len(methods)
        draw_tiles(panel, tiles, rows, heads, tile)
        panel.set_title(name)
    return figure


def tile_of(part: pd.DataFrame, a: str, b: str, decimals: int) -> Tile:
    """The tile of a minus b; a dot where there is nothing to compare."""
    if (a, b) not in part.index:
        return Tile(np.nan, "·")
    found = part.loc[(a, b)]
    if np.isnan(found["difference"]):
        return Tile(np.nan, "·")
    text = look.points(found["difference"], signed=True, decimals=decimals)
    return Tile(float(found["difference"]), text, sure=bool(found["p_holm"] <= SURE))
