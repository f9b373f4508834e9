"""The smallest difference between methods that a comparison would find, for each of its rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import pandas as pd

from opcd_bench.report.analysis import significance
from opcd_bench.report.analysis.controls import controls
from opcd_bench.report.analysis.load import TEST, StoredResults
from opcd_bench.report.analysis.moderated import moderated
from opcd_bench.report.analysis.planned import Key


def detectable(results: StoredResults, mine: Key, measured: str = TEST) -> float:
    """The minimum detectable effect of a method at a rate, the largest over the methods beside it.

    ``measured``: the task's "test" or a retention task. Only for the rates that ran with the most
    seeds of the task: the comparison is drawn there. The others stand at the same rate, or each at
    its own headline rate where the suite chose that on dev; controls stand beside controls alone.
    Paired by example and seed, with what all these pairs say of seeds (`moderated`); against the
    base where no method stands beside it. NaN and infinite where
    `significance.minimum_detectable_effect` is of all of them.
    """
    task, method, rate = mine
    of_task = {
        key: scores[TEST]["seed"].nunique()
        for key, scores in results.finals.items()
        if key[0] == task and TEST in scores
    }
    full = {key for key, seeds in of_task.items() if seeds == max(of_task.values())}
    if mine not in full or measured not in results.finals[mine]:
        return math.nan
    aside = controls(results)
    beside = [
        key
        for key in sorted(full)
        if key[1] != method
        and (key[2] == rate or _chosen_on_dev(results, key[1], full))
        and measured in results.finals[key]
        and ((task, key[1]) in aside) == ((task, method) in aside)
    ]
    scores = [results.finals[key][measured] for key in (mine, *beside)]
    if beside:
        found = _among(scores)
    else:
        base = results.anchor("base", task, measured)
        found = [significance.minimum_detectable_effect(scores[0], base)]
    return max((value for value in found if not math.isnan(value)), default=math.nan)


def _among(scores: Sequence[pd.DataFrame]) -> list[float]:
    """The effects that are detectable between the first and each of the others."""
    pairs = list(combinations(range(len(scores)), 2))
    spreads = [significance.spread_of(scores[a], scores[b]) for a, b in pairs]
    return [
        significance.minimum_detectable_effect(scores[0], scores[b], spread=spread)
        for (a, b), spread in zip(pairs, moderated(spreads, len(scores)), strict=True)
        if a == 0
    ]


def _chosen_on_dev(results: StoredResults, method: str, full: set[Key]) -> bool:
    """Whether a method stands at one rate of its own, by the suite's rule."""
    rates = [key for key in full if key[1] == method]
    return results.suite.get("headline_learning_rate") == "dev" and len(rates) == 1
