"""Gain against retention over the whole sweep: every rate and step, and the area they dominate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from opcd_bench.report.analysis import headline, statistics
from opcd_bench.report.analysis.dominated import Fronts
from opcd_bench.report.analysis.forgetting import on_front
from opcd_bench.report.analysis.headline import TEST
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.analysis.statistics import Floats, Interval
from opcd_bench.report.analysis.sweeps import Point, sweeps

POINTS = [
    "task", "measured", "method", "learning_rate", "step", "seeds", "gain", "change", "pareto",
    "chosen",
]  # fmt: skip
AREAS = ["task", "measured", "method", "area", "bias", "rates", "seeds"]
DIFFERENCES = ["task", "measured", "method", "other", "difference", "bias", "rates", "seeds"]


def points(results: StoredResults) -> pd.DataFrame:
    """One row a (task, retention task, method, rate, evaluated step); step 0 is the base.

    ``gain``: accuracy on dev minus the base's; ``change``: retention minus the base's. Both are
    shares with an interval over items, paired with the base by item and averaged over ``seeds``,
    which are those that the task's finished cells share: so all points rest on the same items and
    seeds. With one seed, as most sweeps have, nothing here says what another training would give.

    ``pareto``: no point of any method, nor the base, gains as much and keeps as much and does
    better in one. It compares values: of many points within noise the luckiest are on the front.
    ``chosen``: the method's headline rate at the step chosen there by most seeds. Rate and step
    were chosen on this very dev split, so the gain of a chosen point is too high by the luck of
    having been chosen; the forgetting plot shows what test says.
    """
    rows = []
    chosen = _chosen(results)
    for sweep in sweeps(results):
        n = sweep.items
        gains = {key: _interval(d, n[sweep.task]) for key, d in sweep.gained.items()}
        for measured, kept in sweep.kept.items():
            keys = [key for key in gains if key in kept]
            changes = {key: _interval(kept[key], n[measured]) for key in keys}
            front = on_front(
                [gains[key].value for key in keys], [changes[key].value for key in keys]
            )
            for key, pareto in zip(keys, front, strict=True):
                rows.append(
                    {
                        "task": sweep.task,
                        "measured": measured,
                        "method": key[0],
                        "learning_rate": key[1],
                        "step": key[2],
                        "seeds": sweep.seeds,
                        "gain": gains[key],
                        "change": changes[key],
                        "pareto": pareto,
                        "chosen": key in chosen[sweep.task],
                    }
                )
    return pd.DataFrame(rows, columns=POINTS).astype({"pareto": bool, "chosen": bool})


def areas(results: StoredResults) -> pd.DataFrame:
    """One row a (task, retention task, method): the area that its points dominate.

    A point with gain g (at least 0) and retention r after training dominates the rectangle from
    (gain 0, everything forgotten) to (g, r). ``area`` is the union over the method's points, as a
    share of (ceiling - base on test) x (retention before): 1 means the whole gap closed and nothing
    forgotten, 0 nothing gained or all forgotten. Only ``rates`` at which every method of the task
    has finished the shared seeds count, since every further point can only add to an area.

    Interval: dev items, retention items and test items (these for the gap) are resampled
    independently of each other, the same resample for all points and methods. Trainings are not
    resampled. No rate or step is chosen for an area, but the union takes the best of its points, so
    noise adds to it: the area is too large, the more so the more points are as good as the best.
    ``bias`` is the bootstrap's estimate of by how much (mean of the resampled areas minus the
    area), itself too small where that is much. Simulated with 150 dev, 200 retention and 500 test
    items: on graded fronts of 12 points like the reference runs' the area is 0.001 to 0.007 too
    large and 95 % intervals hold the truth in 91 to 95 % of cases; with 3 truly equal points 0.04
    and 81 %, with 12 of them 0.07 to 0.10 and less than half. NaN where there is no gap, no
    finished rate in common, or no retention along the way.
    """
    return dominated(results)[0]


def area_differences(results: StoredResults) -> pd.DataFrame:
    """One row a pair of methods (``method`` before ``other`` by name): area minus area.

    From the resamples of `areas`, the same for both, so that what the two share cancels, and the
    bias too where both fronts are alike: of two equal methods the intervals cover 0 in 96 to 97 %
    (simulated). It stays where one method has many points as good as its best and the other a
    single one (simulated, 12 against 1: 0.07, and 0.00 is covered in 29 %): read ``bias`` before
    the interval. Not corrected for the number of pairs.
    """
    return dominated(results)[1]


def dominated(results: StoredResults) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`areas` and `area_differences` of one bootstrap: ask here where both are wanted."""
    areas_rows: list[dict[str, Any]] = []
    difference_rows: list[dict[str, Any]] = []
    for compared in _compared(results):
        methods, of = compared.fronts.methods, _of(compared)
        measured, differences = compared.fronts.measured()
        for method, (area, bias) in zip(methods, measured, strict=True):
            areas_rows.append({**of, "method": method, "area": area, "bias": bias})
        for (a, b), (difference, bias) in zip(compared.fronts.pairs, differences, strict=True):
            row = {"method": methods[a], "other": methods[b], "difference": difference}
            difference_rows.append({**of, **row, "bias": bias})
    return (
        pd.DataFrame(areas_rows, columns=AREAS),
        pd.DataFrame(difference_rows, columns=DIFFERENCES),
    )


def _of(compared: _Compared) -> dict[str, Any]:
    return {
        "task": compared.task,
        "measured": compared.measured,
        "rates": compared.rates,
        "seeds": compared.seeds,
    }


@dataclass(frozen=True)
class _Compared:
    """The fronts of a task's methods on one retention task, over the rates that all have."""

    task: str
    measured: str
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    fronts: Fronts


def _compared(results: StoredResults) -> Iterator[_Compared]:
    for sweep in sweeps(results):
        told, plain = statistics.paired(
            *(results.anchor(reading, sweep.task, TEST) for reading in ("ceiling", "base"))
        )
        for measured, kept in sweep.kept.items():
            keys = [key for key in sweep.gained if key in kept and key[2] > 0]
            methods = sorted({method for method, _, _ in keys})
            swept = [{rate for name, rate, _ in keys if name == method} for method in methods]
            rates = set.intersection(*swept) if swept else set()
            keys = [key for key in keys if key[1] in rates]
            fronts = Fronts(
                methods=tuple(methods),
                owner=np.array([methods.index(key[0]) for key in keys], dtype=np.int64),
                gained=np.array([sweep.gained[key] for key in keys]),
                kept=np.array([kept[key] for key in keys]),
                before=sweep.before[measured],
                gap=told - plain,
            )
            yield _Compared(sweep.task, measured, tuple(sorted(rates)), sweep.seeds, fronts)


def _interval(differences: Floats, items: int) -> Interval:
    """Over the items, or over clusters where there are fewer of these."""
    found = statistics.interval_of(np.mean, differences[~np.isnan(differences)])
    return found if len(differences) == items else replace(found, examples=items)


def _chosen(results: StoredResults) -> dict[str, set[Point]]:
    """Task -> each method's headline rate with the step that most of its seeds chose."""
    done = results.cells[results.cells["state"] == "done"]
    found: dict[str, set[Point]] = {str(task): set() for task in done["task"]}
    for point in headline.points(results).itertuples():
        mine = done[
            (done["task"] == point.task)
            & (done["method"] == point.method)
            & (done["learning_rate"] == point.learning_rate)
            & done["seed"].isin(point.seeds)
        ]
        if len(mine):
            step = int(mine["chosen_step"].mode().min())
            found[point.task].add((point.method, float(point.learning_rate), step))
    return found
