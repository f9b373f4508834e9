"""The scores of every evaluated step of a task's sweep, item by item, against the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from opcd_bench.report.analysis.clusters import in_order
from opcd_bench.report.analysis.comparable import assert_comparable
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.analysis.pairing import in_clusters
from opcd_bench.report.analysis.statistics import Floats

Point = tuple[str, float, int]
"""(method, learning rate, step)."""


@dataclass(frozen=True)
class Sweep:
    """A task's evaluated points, its finished cells' shared ``seeds`` averaged item by item.

    ``gained``: point -> score on dev minus the base's; ``kept``: retention task -> point -> the
    same there; ``before``: retention task -> the base's scores. Arrays of shape (items,), or
    (clusters,) where items have them; NaN where an item was not scored. Step 0 is the base: zeros.
    ``items``: how many items the task's dev and each retention task have.
    """

    task: str
    seeds: tuple[int, ...]
    gained: dict[Point, Floats]
    kept: dict[str, dict[Point, Floats]]
    before: dict[str, Floats]
    items: dict[str, int]


def sweeps(results: StoredResults) -> Iterator[Sweep]:
    """The sweep of each task that has a finished cell, by name.

    A point counts where all of ``seeds`` have it, so that all points rest on the same items and
    seeds. StoreError where the cells cannot be compared.
    """
    if results.cells.empty:
        return
    assert_comparable(results)
    done = results.cells.loc[results.cells["state"] == "done", "run"]
    steps = results.steps[results.steps["run"].isin(done)]
    for task, rows in steps.groupby("task", sort=True):
        cells = rows.groupby(["method", "learning_rate"], sort=True)["seed"].unique()
        seeds = _shared([set(found) for found in cells])
        dev = rows[(rows["split"] == "dev") & (rows["measured"] == task)]
        gained, _ = _against_base(dev, seeds, partial(in_order, results.suite, task, "dev"))
        kept, before, items = {}, {}, {str(task): _count(dev)}
        for name, part in rows[rows["split"] == "retention"].groupby("measured", sort=True):
            order = partial(in_order, results.suite, name, "retention")
            kept[str(name)], before[str(name)] = _against_base(part, seeds, order)
            items[str(name)] = _count(part)
        yield Sweep(str(task), seeds, gained, kept, before, items)


def _count(rows: pd.DataFrame) -> int:
    return max(map(len, rows["scores"]), default=0)


def _shared(cells: list[set[int]]) -> tuple[int, ...]:
    """The seeds that all cells have; where there are none, the one that most of them have."""
    common = set.intersection(*cells)
    if not common:
        every = [seed for seeds in cells for seed in seeds]
        common = {max(sorted(set(every)), key=every.count)}
    return tuple(sorted(int(seed) for seed in common))


def _against_base(
    rows: pd.DataFrame, seeds: tuple[int, ...], order: Callable[[int], list[str] | None]
) -> tuple[dict[Point, Floats], Floats]:
    """Point -> scores minus those of step 0, by item; and those of step 0.

    ``order``: the clusters of so many items, by which they then are.
    """
    stored = {
        (str(method), float(rate), int(step), int(seed)): scores
        for method, rate, step, seed, scores in zip(
            *(rows[name] for name in ("method", "learning_rate", "step", "seed", "scores")),
            strict=True,
        )
    }
    found: dict[Point, Floats] = {}
    base: Floats = np.empty(0)
    for method, rate, step in sorted({key[:3] for key in stored}):
        now = [stored.get((method, rate, step, seed)) for seed in seeds]
        then = [stored.get((method, rate, 0, seed)) for seed in seeds]
        pairs = [(a, b) for a, b in zip(now, then, strict=True) if a is not None and b is not None]
        if len(pairs) == len(seeds):
            found[method, rate, step] = _over_seeds([a - b for a, b in pairs])
            base = base if len(base) else _over_seeds([b for _, b in pairs])
    clusters = order(len(base))
    return {at: in_clusters(one, clusters) for at, one in found.items()}, in_clusters(
        base, clusters
    )


def _over_seeds(scores: list[Floats]) -> Floats:
    """The mean of each item over the seeds that scored it."""
    stack = np.stack(scores)
    scored = ~np.isnan(stack)
    total, count = np.where(scored, stack, 0.0).sum(axis=0), scored.sum(axis=0)
    mean: Floats = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return mean
