"""Tables of tiles: a number in each, tinted by its size where it is sure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from opcd_bench.report.figures import style as look

TINTS = (0.02, 0.05, 0.15)
"""Shares at which a tile's tint deepens."""
LEVEL_BELOW = 0.005
"""Shares that print as 0 points have no tint."""
LABEL_IN_PER_LETTER = 0.062
LETTERS = 26
"""Of a line of a label: two lines have room beside a tile, and above one."""
LINE_INCHES = 0.11
LARGEST_TYPE = 6.5
EMS = {"+": 0.84, look.MINUS: 0.84, ".": 0.38, "·": 0.38}
"""Widths of what tiles hold, in parts of the type's size; digits, bold: 0.70."""


class Tile(NamedTuple):
    """A share and how it is written; ``sure``: painted by its size; ``plain``: no ground at all."""

    value: float
    text: str
    sure: bool = False
    plain: bool = False


def draw_tiles(
    panel: Axes,
    tiles: Mapping[tuple[int, int], Tile],
    rows: Sequence[str],
    columns: Sequence[str],
    width: float,
) -> None:
    """Tiles at (row, column), row 0 on top, each ``width`` inches wide."""
    widest = max((_ems(tile.text) for tile in tiles.values()), default=1.0)
    size = min(LARGEST_TYPE, 0.92 * 72 * width / widest)
    panel.set_xlim(0, len(columns))
    panel.set_ylim(len(rows), 0)
    panel.grid(visible=False)
    for spine in panel.spines.values():
        spine.set_visible(False)
    panel.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False, pad=2)
    above = [look.wrapped(text, LETTERS) for text in columns]
    beside = [look.wrapped(text, LETTERS) for text in rows]
    turned = 90 if max(map(len, columns)) > 2 else 0
    panel.set_xticks(np.arange(len(columns)) + 0.5, above, rotation=turned, linespacing=1.0)
    panel.set_yticks(np.arange(len(rows)) + 0.5, beside, linespacing=1.0)
    for (i, j), tile in sorted(tiles.items()):
        fill, ink = tint(tile.value) if tile.sure else (look.LEVEL, look.MUTED)
        if not tile.plain:
            panel.add_patch(
                Rectangle((j + 0.02, i + 0.04), 0.96, 0.92, facecolor=fill, edgecolor="none")
            )
        panel.text(
            j + 0.5, i + 0.52, tile.text, ha="center", va="center", fontsize=size,
            color=ink, fontweight="bold" if tile.sure else "normal",
        )  # fmt: skip


def label_inches(labels: Sequence[str]) -> float:
    """What the longest of some labels takes, wrapped."""
    lines = [line for text in labels for line in look.wrapped(text, LETTERS).split("\n")]
    return LABEL_IN_PER_LETTER * max(map(len, lines))


def lines_inches(labels: Sequence[str]) -> float:
    """What the lines of a label of several take, one above another; 0 where all have one line."""
    lines = max(look.wrapped(text, LETTERS).count("\n") for text in labels) + 1
    return LINE_INCHES * lines if lines > 1 else 0.0


def _ems(text: str) -> float:
    return sum(EMS.get(letter, 0.70) for letter in text)


def tint(value: float) -> tuple[str, str]:
    """A tile's colour and that of its text: brown for losses, blue for gains, deeper for more."""
    if np.isnan(value) or abs(value) < LEVEL_BELOW:
        return look.LEVEL, look.MUTED
    depth = int(np.searchsorted(TINTS, abs(value), side="right"))
    colours = look.GAINS if value > 0 else look.LOSSES[::-1]
    return colours[depth], look.ON_DEEP if depth == 3 else look.INK
