"""The dose of the mass gradient that truncated losses added up, and the damage beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from opcd_bench.report.analysis import statistics
from opcd_bench.report.analysis.comparable import assert_comparable
from opcd_bench.report.analysis.load import TEST, StoredResults
from opcd_bench.report.analysis.pairing import by_seed, over_seeds, ratio
from opcd_bench.report.analysis.statistics import Floats, Interval

FULL = "opcd_full"
"""The method that damage is measured against."""
GROUP = ["task", "learning_rate"]
DOSES = [*GROUP, "method", "seed", "seeds", "step", "takes", "dose", "spared", "damage"]
RESPONSE = [*GROUP, "methods", "seeds", "correlation", "p"]
FEWEST = 5
"""Below so many methods no rank correlation has a p of 5 %: permuting four gives 8 % at least."""


def doses(results: StoredResults) -> pd.DataFrame:
    """One row a (task, learning rate, method), ``seed`` None, and one row each of its seeds.

    Of the methods that differ from `FULL` in their loss alone, a reverse KL over a top-k. ``dose``:
    the sum, over the optimiser steps up to the measured one, of mean leak / mean signal, which are
    the L1 norms of the gradient of the student's mass on the support and of what a stop-gradient
    keeps; mean over the seeds. 0 for a loss whose gradient has no such part (``takes`` is False):
    what it would have been is ``spared``.

    ``damage``: accuracy of `FULL` minus that of the method, on test; a share with its interval. A
    run is paired, example by example, with that of `FULL` of the same task, learning rate and seed,
    and only where both were measured at the same ``step``; runs without such a partner, or with a
    step whose leak or signal is not known, are left out. No rows for a (task, learning rate) where
    fewer than two methods have a dose above 0. StoreError where the cells cannot be compared.
    """
    added, rows = _added(results.trains), list[dict[str, Any]]()
    cells = results.cells[results.cells["state"] == "done"]
    if added.empty or not (cells["method"] == FULL).any():
        return pd.DataFrame(columns=DOSES)
    assert_comparable(results)
    for (task, rate), group in cells.groupby(GROUP, sort=True):
        full = group[group["method"] == FULL]
        found = [
            _rows(results, full, mine, added)
            for method, mine in group.groupby("method", sort=True)
            if method != FULL and len(full) and _truncates(mine, full)
        ]
        if sum(of_method[0]["dose"] > 0 for of_method in found if of_method) > 1:
            head = {"task": task, "learning_rate": rate}
            rows += [{**head, **row} for of_method in found for row in of_method]
    frame = pd.DataFrame(rows, columns=DOSES).astype({"takes": bool})
    frame["seed"] = pd.Series([row["seed"] for row in rows], dtype=object)
    return frame


def _added(trains: pd.DataFrame) -> pd.DataFrame:
    """Columns run, step and leak / signal of every step that moved a weight; NaN: not known."""
    if not {"leak", "signal", "skipped"} <= set(trains.columns):
        return pd.DataFrame(columns=["run", "step", "added"])
    moved = trains[~trains["skipped"].astype(bool)]
    added = moved["leak"].astype(float) / moved["signal"].astype(float)
    return moved[["run", "step"]].assign(added=added)


def _truncates(mine: pd.DataFrame, full: pd.DataFrame) -> bool:
    """Whether a method is `FULL` but for its loss, which is a reverse KL over a top-k."""
    own, whole = mine["description"].iloc[0], full["description"].iloc[0]
    loss = own["loss"]
    if loss.get("direction") != "reverse_kl" or loss["support"] in ("full", "sampled"):
        return False
    rest = [{k: v for k, v in one.items() if k not in ("name", "loss", "source_hash")}
            for one in (own, whole)]  # fmt: skip
    return loss["gradient"] != "score_function" and rest[0] == rest[1]


def takes(loss: Mapping[str, Any]) -> bool:
    """Whether the gradient of a truncated reverse KL holds that of the student's mass."""
    through = loss["gradient"] in ("through", "stop_gradient_weight")
    return through and loss["outside"] in ("drop", "leak")


def _rows(
    results: StoredResults, full: pd.DataFrame, mine: pd.DataFrame, added: pd.DataFrame
) -> list[dict[str, Any]]:
    """Of a method at a learning rate: all its seeds together, then each; none where none pairs."""
    taken = takes(mine["description"].iloc[0]["loss"])
    measured_at = dict(zip(full["seed"], full["chosen_step"], strict=True))
    runs: dict[int, tuple[int, float]] = {}
    for cell in mine.sort_values("seed").to_dict("records"):
        steps = added[(added["run"] == cell["run"]) & (added["step"] <= cell["chosen_step"])]
        total = float(steps["added"].sum(skipna=False)) if len(steps) else np.nan
        if measured_at.get(cell["seed"]) == cell["chosen_step"] and np.isfinite(total):
            runs[int(cell["seed"])] = int(cell["chosen_step"]), total
    if not runs:
        return []
    task, method, rate = (mine[name].iloc[0] for name in ("task", "method", "learning_rate"))
    scores = [results.finals[task, name, rate][TEST] for name in (FULL, method)]

    def row(seed: int | None, seeds: tuple[int, ...]) -> dict[str, Any]:
        total = float(np.mean([runs[one][1] for one in seeds]))
        pair = [frame[frame["seed"].isin(seeds)] for frame in scores]
        return {
            "method": method,
            "seed": seed,
            "seeds": seeds,
            "step": max(runs[one][0] for one in seeds),
            "takes": taken,
            "dose": total if taken else 0.0,
            "spared": 0.0 if taken else total,
            "damage": statistics.difference(*pair),
        }

    return [row(None, tuple(runs)), *(row(seed, (seed,)) for seed in runs)]


def response(results: StoredResults, found: pd.DataFrame) -> pd.DataFrame:
    """One row a (task, learning rate) of `doses`: whether damage goes with the dose.

    ``correlation``: Spearman's, of dose and damage over the ``methods`` (how many) that take it,
    means over the ``seeds`` that all of them ran. Its interval resamples the test examples: it
    holds for these methods and trainings. ``p``: how often as large a one comes of damages that are
    permuted; exact up to 7 methods. Without values below `FEWEST` methods, or where all are alike;
    without an interval where nearly all resamples give the same ranks, which says nothing of the
    methods.
    """
    rows = []
    for (task, rate), group in found.groupby(GROUP, sort=True):
        whole = group[group["seed"].isna() & group["takes"]]
        seeds = tuple(sorted(set.intersection(*map(set, whole["seeds"]))))
        row = {"task": task, "learning_rate": rate, "methods": len(whole), "seeds": seeds}
        correlation, p = Interval(np.nan, np.nan, np.nan, 0), np.nan
        if len(whole) >= FEWEST and seeds:
            single = group[group["seed"].isin(seeds)].groupby("method")["dose"].mean()
            names = (FULL, *whole["method"])
            scores = (results.finals[task, name, rate][TEST] for name in names)
            full, *others = by_seed(*(one[one["seed"].isin(seeds)] for one in scores))
            damages = [over_seeds(full - other) for other in others]
            dose = tuple(float(single[name]) for name in whole["method"])
            correlation = statistics.interval_of(partial(_spearman, dose), *damages)
            if math.isclose(correlation.low, correlation.high):
                correlation = replace(correlation, low=math.nan, high=math.nan)
            if not math.isnan(correlation.value):
                p = _permuted(dose, [float(one.mean()) for one in damages])
        rows.append({**row, "correlation": correlation, "p": p})
    return pd.DataFrame(rows, columns=RESPONSE)


def _spearman(dose: tuple[float, ...], *damages: Floats, axis: int = -1) -> Floats:
    """The rank correlation of doses and mean damages, an array of examples a method."""
    x, y = _ranks(dose), _ranks([np.mean(one, axis=axis) for one in damages])
    return ratio(np.tensordot(x, y, axes=1), np.sqrt((x**2).sum() * (y**2).sum(axis=0)))


def _permuted(dose: Sequence[float], damage: Sequence[float]) -> float:
    """Two-sided p of the rank correlation, by permuting which damage goes with which dose."""
    x, y = _ranks(dose), _ranks(damage)

    def together(ranks: Floats, axis: int = -1) -> Any:
        return (ranks * y).sum(axis=axis)

    found = stats.permutation_test(
        (x,), together, permutation_type="pairings", vectorized=True, rng=0
    )
    return float(found.pvalue)


def _ranks(values: Any) -> Floats:
    """Ranks along the first axis, about their mean; ties share one."""
    rounded = np.round(np.asarray(values), 12)  # means of the same scores in another order
    ranks = stats.rankdata(rounded, axis=0)
    about_mean: Floats = ranks - ranks.mean(axis=0)
    return about_mean
