"""The figures of the comparison: which there are, and their files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from opcd_bench.report.analysis.comparison import Comparison
from opcd_bench.report.figures import (
    curves,
    factorial,
    forgetting,
    frontier,
    instructions,
    pairwise,
    steps,
    style,
)
from opcd_bench.report.figures.files import DrawnFigure


def draw(comparison: Comparison) -> list[DrawnFigure]:
    """Every figure that the comparison has data for, by task and then in the order of the page."""
    c, marks = comparison, style.palette(methods_of(comparison))
    kinds: list[tuple[pd.DataFrame, Callable[[str], DrawnFigure]]] = [
        (c.frontier, lambda task: frontier.drawn(c.frontier, c.areas, task, marks)),
        (c.forgetting, lambda task: forgetting.drawn(c.forgetting, task, marks)),
        (c.by_step, lambda task: steps.drawn(c.by_step, task, marks)),
        (_headline(c), lambda task: curves.drawn(c.curves, task, "steps", marks)),
        (_headline(c), lambda task: curves.drawn(c.curves, task, "tokens", marks)),
        (c.effects, lambda task: factorial.drawn(c.effects, task)),
        (c.matrix, lambda task: pairwise.drawn(c.matrix, task)),
        (c.instructions, lambda task: instructions.drawn(c.instructions, task)),
    ]
    return [
        make(task)
        for task in tasks_of(comparison)
        for frame, make in kinds
        if (frame["task"] == task).any()
    ]


def render_all(drawn: Sequence[DrawnFigure]) -> dict[str, bytes]:
    """``figures/<name><suffix>`` -> bytes, of all of them."""
    return {
        f"figures/{one.name}{suffix}": data for one in drawn for suffix, data in one.files.items()
    }


def methods_of(comparison: Comparison) -> list[str]:
    """Every method of the comparison, by name: all figures give each the same mark."""
    return sorted({str(name) for frame in _frames(comparison) for name in frame.get("method", ())})


def tasks_of(comparison: Comparison) -> list[str]:
    """Every task that something is drawn of, by name."""
    return sorted({str(name) for frame in _frames(comparison) for name in frame["task"]})


def _headline(comparison: Comparison) -> pd.DataFrame:
    frame = comparison.curves
    return frame[frame["headline"].astype(bool)]


def _frames(comparison: Comparison) -> Iterable[pd.DataFrame]:
    return vars(comparison).values()
