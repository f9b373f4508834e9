"""The plane of gain and forgetting that the frontier and the forgetting plot draw in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.style import Mark

CLOSE = 0.5
"""Points within this share of what a panel shows are drawn once more, close up."""
PANEL_HEIGHT = 2.5


def plane(
    flat: pd.DataFrame,
    best: pd.Series,
    handles: Sequence[Line2D],
    draw: Callable[[Axes, pd.DataFrame], None],
    x_label: str,
    *,
    narrow: bool,
) -> Figure:
    """A panel a retention measure, with the base at the origin; ``draw`` puts the points into it.

    ``flat``: columns measured, gain, change and their bounds, in shares. ``best``: which of its
    rows the reader compares; where they lie near each other each panel gets a close-up of them.
    """
    measured = sorted(set(flat["measured"]))
    nearer = (False, True) if clustered(flat[best]) else (False,)
    panels = [(name, near) for name in measured for near in nearer]
    across = 1 if narrow or len(panels) == 1 else 2
    entries = [*handles, Line2D([], [], color=look.INK, marker="+", linestyle="", label="base")]
    width = look.COLUMN if across == 1 else look.PAGE
    height = PANEL_HEIGHT * look.rows_of(len(panels), across) + look.legend_height(entries, width)
    figure, axes = look.grid(len(panels), across, (width, height))
    for panel, (name, near) in zip(axes, panels, strict=True):
        here = flat["measured"] == name
        panel.axhline(0, color=look.RULE, linewidth=0.7, zorder=1)
        panel.axvline(0, color=look.RULE, linewidth=0.7, zorder=1)
        panel.plot([0], [0], "+", color=look.INK, markersize=7, markeredgewidth=1.4, zorder=6)
        draw(panel, flat[here])
        if near:
            _close_up(panel, flat[here & best])
        look.at_least(panel, look.LEAST_SPAN)
        look.percent(panel)
        panel.set_title(f"{name}, close up" if near else name)
        panel.set_xlabel(x_label)
        panel.set_ylabel("change in retention (points)")
    look.legend(figure, entries)
    return figure


def clustered(rows: pd.DataFrame) -> bool:
    """Whether these points lie so near each other that a close-up tells them apart better."""
    low, high = _ends(rows, "gain")
    return len(rows) > 1 and high - low < CLOSE * (max(high, 0.0) - min(low, 0.0))


def intervals(panel: Axes, row: Mapping[Any, Any], across: str, up: str, mark: Mark) -> None:
    """The intervals of a point's two columns, as a cross; no bar where there is none."""
    x, y = row[across], row[up]
    for xs, ys in (
        ([row[f"{across}_low"], row[f"{across}_high"]], [y, y]),
        ([x, x], [row[f"{up}_low"], row[f"{up}_high"]]),
    ):
        if not np.isnan([*xs, *ys]).any():
            panel.plot(xs, ys, color=mark.colour, linewidth=1.0, zorder=4)


def compared(panel: Axes, rows: pd.DataFrame, mark: Mark) -> None:
    """Large points with both intervals; no bar where there is no interval."""
    for row in rows.to_dict("records"):
        intervals(panel, row, "gain", "change", mark)
    panel.plot(
        rows["gain"], rows["change"], mark.marker, color=mark.colour, markersize=6.5,
        markeredgecolor=look.INK, markeredgewidth=0.7, zorder=5,
    )  # fmt: skip


def faint(panel: Axes, rows: pd.DataFrame, mark: Mark) -> None:
    """Small points that stand behind."""
    panel.plot(
        rows["gain"], rows["change"], mark.marker, color=mark.colour, alpha=0.4, markersize=3.5,
        markeredgewidth=0, zorder=2,
    )  # fmt: skip


def _close_up(panel: Axes, rows: pd.DataFrame) -> None:
    for column, set_limits in (("gain", panel.set_xlim), ("change", panel.set_ylim)):
        low, high = _ends(rows, column)
        room = 0.08 * max(high - low, 0.01)
        set_limits(low - room, high + room)


def _ends(rows: pd.DataFrame, column: str) -> tuple[float, float]:
    """The outermost of the values and their bounds."""
    ends = rows[[column, f"{column}_low", f"{column}_high"]]
    return float(ends.min(axis=None)), float(ends.max(axis=None))
