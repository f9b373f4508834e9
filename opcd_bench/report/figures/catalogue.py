"""The figures of the comparison: which there are, and their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from opcd_bench.report.analysis.comparison import Comparison
from opcd_bench.report.figures import (
    curves,
    doses,
    factorial,
    forgetting,
    frontier,
    instructions,
    pairwise,
    steps,
    summary,
)
from opcd_bench.report.figures.files import DrawnFigure
from opcd_bench.report.figures.style import Marks


def draw(
    comparison: Comparison, marks: Marks, tasks: Sequence[str], gaps: Mapping[str, float]
) -> list[DrawnFigure]:
    """Every figure that the comparison has data for: the summary, then by task as on the page.

    ``marks``: of all methods, in their order; ``tasks``: all of them, in theirs; ``gaps``: task ->
    what the in-context teacher has over the base on test.
    """
    c = comparison
    kinds: list[tuple[pd.DataFrame, Callable[[str], DrawnFigure]]] = [
        (c.frontier, lambda task: frontier.drawn(c.frontier, c.areas, task, marks)),
        (c.forgetting, lambda task: forgetting.drawn(c.forgetting, task, marks)),
        (c.by_step, lambda task: steps.drawn(c.by_step, task, marks)),
        (_headline(c), lambda task: curves.drawn(c.curves, task, marks)),
        (c.doses, lambda task: doses.drawn(c.doses, task, marks)),
        (c.effects, lambda task: factorial.drawn(c.effects, task, marks)),
        (c.matrix, lambda task: pairwise.drawn(c.matrix, task, marks)),
        (c.instructions, lambda task: instructions.drawn(c.instructions, task, marks)),
    ]
    first = [] if c.groups.empty else [summary.drawn(c.groups, gaps, marks, tasks)]
    return first + [
        make(task) for task in tasks for frame, make in kinds if (frame["task"] == task).any()
    ]


def render_all(drawn: Sequence[DrawnFigure]) -> dict[str, bytes]:
    """``figures/<name><suffix>`` -> bytes, of all of them."""
    return {
        f"figures/{one.name}{suffix}": data for one in drawn for suffix, data in one.files.items()
    }


def _headline(comparison: Comparison) -> pd.DataFrame:
    frame = comparison.curves
    return frame[frame["headline"].astype(bool)]
