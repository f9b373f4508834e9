"""How long a suite takes on several workers at once: its waves, and what bounds each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from opcd_bench.config.suite import Suite
from opcd_bench.runner import grid


@dataclass(frozen=True)
class CellTime:
    """The cells of a task, and the seconds that one of them takes."""

    cells: int
    seconds: float


def seconds_on(workers: int, waves: Sequence[Sequence[CellTime]]) -> float:
    """Seconds that waves of cells take on ``workers``, one wave after the other.

    A wave takes as long as its work divides among the workers, and no less than whole rounds of
    its shortest cells or one of its longest. A bound from below, and within a cell of a schedule
    that gives out the longest first.
    """
    total = 0.0
    for wave in waves:
        held = [one for one in wave if one.cells]
        if not held:
            continue
        work = sum(one.cells * one.seconds for one in held)
        rounds = math.ceil(sum(one.cells for one in held) / workers)
        shortest = min(one.seconds for one in held)
        longest = max(one.seconds for one in held)
        total += max(work / workers, rounds * shortest, longest)
    return total


def waves_of(suite: Suite, cells: Sequence[int], seconds: Sequence[float]) -> list[list[CellTime]]:
    """The sweep, and after it the seeds at the rates that dev chooses: cells of each task.

    ``cells`` and ``seconds``: of each task, all its cells and the seconds of all of them.
    """
    first = 1.0
    if suite.headline_learning_rate == "dev":
        swept = len(grid.rates_and_seeds(suite))
        first = swept / (swept + suite.seeds - (suite.sweep_seeds or suite.seeds))
    one = [CellTime(round(n * first), s / max(1, n)) for n, s in zip(cells, seconds, strict=True)]
    rest = [CellTime(n - begun.cells, begun.seconds) for n, begun in zip(cells, one, strict=True)]
    return [one, rest]
