"""How much of the variance of a gain is the teacher, the loss, their interaction, and the seed."""

from __future__ import annotations

from collections.abc import Mapping
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
SOURCES = ("teacher", "loss", "teacher x loss", "seed")


def sensitivity(results: StoredResults) -> pd.DataFrame:
    """Four rows a task whose methods cross at least two teachers with at least two losses.

    All that differs between the methods must be these two, and each has as many seeds, at least
    two. ``share``: of the sum of squares of the gains (test accuracy less the base's) over the
    runs, by a two-way analysis of variance, less what seeds alone add to it (`shares`); ``spread``:
    the root of that part per run, in shares of accuracy; 0 where it is below 0. ``p``: of the F
    test against seeds, NaN of the seed's own part, which holds the sampling of the training and of
    the responses. Tasks without such a grid have no rows.
    """
    rows: list[dict[str, Any]] = []
    points = headline.points(results)
    for task, methods in points.groupby("task", sort=True):
        gains = _gains(results, str(task), methods)
        teachers = list(dict.fromkeys(teacher for teacher, _ in gains))
        losses = list(dict.fromkeys(loss for _, loss in gains))
        seeds = {len(values) for values in gains.values()}
        whole = len(gains) == len(teachers) * len(losses) and len(seeds) == 1
        if not whole or min(len(teachers), len(losses), *seeds) < 2:
            continue
        grid = np.array([[gains[t, loss] for loss in losses] for t in teachers])
        about = {"task": task, "teachers": len(teachers), "losses": len(losses),
                 "seeds": grid.shape[2]}  # fmt: skip
        squares, freedoms = sums_of_squares(grid), degrees(grid)
        noise = squares["seed"] / freedoms["seed"]
        for source, share in shares(squares, freedoms).items():
            spread = float(np.sqrt(np.fmax(share, 0.0) * sum(squares.values()) / grid.size))
            unknown = source == "seed" or not (noise > 0 or squares[source] > 0)
            f = squares[source] / freedoms[source] / noise if noise > 0 else np.inf
            p = np.nan if unknown else float(stats.f.sf(f, freedoms[source], freedoms["seed"]))
            rows.append({**about, "source": source, "share": share, "spread": spread, "p": p})
    return pd.DataFrame(rows, columns=COLUMNS)


def shares(squares: Mapping[str, float], freedoms: Mapping[str, int]) -> dict[str, float]:
    """Of each of `SOURCES` the share of the whole sum of squares, less what seeds add: epsilon².

    Of `sums_of_squares` and `degrees`. A source of d degrees of freedom has d mean squares of seeds
    in it by chance alone, which are the seed's (Kelley 1935): of gains that differ by seeds alone,
    teacher and loss have 0 on average, and may be below. They add up to 1; NaN where nothing
    varies.
    """
    total, noise = sum(squares.values()), squares["seed"] / freedoms["seed"]
    if not total > 0:
        return dict.fromkeys(SOURCES, np.nan)
    found = {one: (squares[one] - freedoms[one] * noise) / total for one in SOURCES[:-1]}
    return {**found, "seed": 1.0 - sum(found.values())}


def degrees(gains_TLS: Gains) -> dict[str, int]:
    """The degrees of freedom of each of `SOURCES`."""
    teachers, losses, seeds = gains_TLS.shape
    return {
        "teacher": teachers - 1,
        "loss": losses - 1,
        "teacher x loss": (teachers - 1) * (losses - 1),
        "seed": teachers * losses * (seeds - 1),
    }


def sums_of_squares(gains_TLS: Gains) -> dict[str, float]:
    """Of gains by teacher, loss and seed: what each of `SOURCES` adds to the sum of squares."""
    _, losses, seeds = gains_TLS.shape
    teachers = len(gains_TLS)
    mean, cell_TL = gains_TLS.mean(), gains_TLS.mean(axis=2)
    teacher_T, loss_L = cell_TL.mean(axis=1), cell_TL.mean(axis=0)
    crossed_TL = cell_TL - teacher_T[:, None] - loss_L[None, :] + mean
    return {
        "teacher": float(losses * seeds * ((teacher_T - mean) ** 2).sum()),
        "loss": float(teachers * seeds * ((loss_L - mean) ** 2).sum()),
        "teacher x loss": float(seeds * (crossed_TL**2).sum()),
        "seed": float(((gains_TLS - cell_TL[:, :, None]) ** 2).sum()),
    }


def _gains(
    results: StoredResults, task: str, methods: pd.DataFrame
) -> dict[tuple[str, str], list[float]]:
    """(teacher, loss) -> the gain of each seed; empty where methods differ in anything else."""
    described = results.cells[results.cells["task"] == task].set_index("method")["description"]
    described = described[~described.index.duplicated()]
    base = by_example(results.anchor("base", task, TEST)).mean()
    found: dict[tuple[str, str], list[float]] = {}
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
        scores = [by_example(rows).mean() for _, rows in test.groupby("seed", sort=True)]
        found[key] = [float(score - base) for score in scores]
    return found if len(writers) == 1 else {}


def _words(choice: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(choice.items()))
