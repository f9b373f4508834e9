"""How much of the variance of a gain is the teacher, the loss, their interaction, and the seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from opcd_bench.report.analysis import headline
from opcd_bench.report.analysis.load import TEST, StoredResults
from opcd_bench.report.analysis.pairing import by_example

COLUMNS = ["task", "teachers", "losses", "seeds", "source", "share", "spread", "p"]
Gains = np.ndarray[Any, Any]
"""Of shape (teachers, losses, seeds)."""
AXES = ("teacher", "loss", "seed")
ERRORS = {
    "teacher": "teacher x seed",
    "loss": "loss x seed",
    "teacher x loss": "teacher x loss x seed",
    "teacher x seed": "teacher x loss x seed",
}
"""Source -> what it is tested against: how much it would vary with other seeds, which are blocks.

A seed has the same prompts and noise for every method, and a teacher adapted for it is shared by
all losses; so a teacher's luck with its seeds is no evidence for the teacher (the mixed model of
Scheffé 1959, chapter 8, with teacher and loss fixed)."""
SOURCES = (*ERRORS, "seed")


def sensitivity(results: StoredResults) -> pd.DataFrame:
    """A row a source of tasks whose methods cross at least two teachers with at least two losses.

    All that differs between the methods must be these two, and each has the same seeds, at least
    two. ``share``: of the sum of squares of the gains (test accuracy less the base's) over the
    runs, less what seeds alone add to it (`shares`); ``spread``: the root of that part per run, in
    shares of accuracy; 0 where it is below 0. ``p``: of the F test against `ERRORS`, NaN of the
    seed's own part. Tasks without such a grid have no rows.
    """
    rows: list[dict[str, Any]] = []
    points = headline.points(results)
    for task, methods in points.groupby("task", sort=True):
        gains = _gains(results, str(task), methods)
        teachers = list(dict.fromkeys(teacher for teacher, _ in gains))
        losses = list(dict.fromkeys(loss for _, loss in gains))
        seeds = {tuple(values) for values in gains.values()}
        whole = len(gains) == len(teachers) * len(losses) and len(seeds) == 1
        if not whole or min(len(teachers), len(losses), *map(len, seeds)) < 2:
            continue
        grid = np.array([[list(gains[t, loss].values()) for loss in losses] for t in teachers])
        about = {"task": task, "teachers": len(teachers), "losses": len(losses),
                 "seeds": grid.shape[2]}  # fmt: skip
        squares, freedoms = sums_of_squares(grid), degrees(grid)
        for source, share in shares(squares, freedoms).items():
            spread = float(np.sqrt(np.fmax(share, 0.0) * sum(squares.values()) / grid.size))
            p = _p(source, squares, freedoms)
            rows.append({**about, "source": source, "share": share, "spread": spread, "p": p})
    return pd.DataFrame(rows, columns=COLUMNS)


def _p(source: str, squares: Mapping[str, float], freedoms: Mapping[str, int]) -> float:
    error = ERRORS.get(source)
    if error is None or not (squares[source] > 0 or squares[error] > 0):
        return float("nan")
    noise = squares[error] / freedoms[error]
    f = squares[source] / freedoms[source] / noise if noise > 0 else np.inf
    return float(stats.f.sf(f, freedoms[source], freedoms[error]))


def shares(squares: Mapping[str, float], freedoms: Mapping[str, int]) -> dict[str, float]:
    """Of each of `SOURCES` the share of the whole sum of squares, less what its error adds to it.

    Of `sums_of_squares` and `degrees`. A source of d degrees of freedom has d mean squares of its
    error in it by chance alone (epsilon squared, Kelley 1935): where only seeds differ all but the
    seed have 0 on average, and may be below. They add up to 1; NaN where nothing varies.
    """
    total = sum(squares.values())
    if not total > 0:
        return dict.fromkeys(SOURCES, np.nan)
    found = {
        source: (squares[source] - freedoms[source] * squares[error] / freedoms[error]) / total
        for source, error in ERRORS.items()
    }
    return {**found, "seed": 1.0 - sum(found.values())}


def degrees(gains_TLS: Gains) -> dict[str, int]:
    """The degrees of freedom of each part of `sums_of_squares`."""
    return {
        _name(axes): math.prod(gains_TLS.shape[axis] - 1 for axis in axes) for axes in _subsets(3)
    }


def sums_of_squares(gains_TLS: Gains) -> dict[str, float]:
    """Of gains by teacher, loss and seed, what each of these and of their crossings adds."""
    whole = {
        axes: gains_TLS.mean(axis=tuple({0, 1, 2} - set(axes)), keepdims=True)
        for axes in ((), *_subsets(3))
    }
    found = {}
    for axes in _subsets(3):
        below = [one for one in whole if set(one) <= set(axes)]
        effect = sum((-1) ** (len(axes) - len(one)) * whole[one] for one in below)
        found[_name(axes)] = float((np.broadcast_to(effect, gains_TLS.shape) ** 2).sum())
    return found


def _subsets(count: int) -> list[tuple[int, ...]]:
    """Every choice of at least one of so many axes."""
    return [axes for size in range(1, count + 1) for axes in combinations(range(count), size)]


def _name(axes: Sequence[int]) -> str:
    return " x ".join(AXES[axis] for axis in axes)


def _gains(
    results: StoredResults, task: str, methods: pd.DataFrame
) -> dict[tuple[str, str], dict[int, float]]:
    """(teacher, loss) -> the gain of each seed; empty where methods differ in anything else."""
    described = results.cells[results.cells["task"] == task].set_index("method")["description"]
    described = described[~described.index.duplicated()]
    base = by_example(results.anchor("base", task, TEST)).mean()
    found: dict[tuple[str, str], dict[int, float]] = {}
    writers = set()
    for point in methods.itertuples():
        choices = described[point.method]
        if not {"loss", "teacher", "writer"} <= choices.keys():
            return {}
        key = (_words(choices["teacher"]), _words(choices["loss"]))
        if key in found:
            return {}
        writers.add(_words(choices["writer"]))
        test = results.finals[task, point.method, point.learning_rate][TEST]
        found[key] = {
            int(seed): float(by_example(rows).mean() - base)
            for seed, rows in test.groupby("seed", sort=True)
        }
    return found if len(writers) == 1 else {}


def _words(choice: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(choice.items()))
