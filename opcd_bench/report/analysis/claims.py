"""The claims that a suite states, each tested: effect, interval, what would show, and the word."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from opcd_bench.config.claims import PROBED, Claim, arm
from opcd_bench.report.analysis import headline, prefixes, statistics
from opcd_bench.report.analysis.load import TEST, StoredResults
from opcd_bench.report.analysis.statistics import Interval

COLUMNS = ["claim", "contrast", "measure", "direction", "threshold", "effect", "mde", "word"]
REPRODUCED, NOT, OPEN = "reproduced", "not reproduced", "not decidable here"
FEWEST = 2
"""Trainings of an arm below which nothing is decided: one says nothing of the next."""
NOTHING = Interval(math.nan, math.nan, math.nan, 0)


def claims(results: StoredResults) -> pd.DataFrame:
    """One row a claim of the suite, in its order: columns `COLUMNS`.

    ``effect``: the first arm less the second (or itself), an interval in shares, each arm at the
    learning rate at which its method is compared; no value where an arm was not run or probed.
    ``mde``: the effect that would show in four of five repetitions. ``word``: see `judged`; open
    where a trained arm has a single seed, whose interval holds for that training alone.
    """
    stated = [Claim.model_validate(one) for one in results.suite.get("claims", [])]
    if not stated:
        return pd.DataFrame(columns=COLUMNS)
    arms = _Arms(results)
    rows = []
    for claim in stated:
        effect = arms.effect(claim)
        rows.append(
            {
                "claim": claim.text,
                "contrast": _contrast(claim),
                "measure": claim.measure,
                "direction": claim.direction,
                "threshold": claim.threshold,
                "effect": effect,
                "mde": statistics.detectable(effect),
                "word": judged(effect, claim.direction, claim.threshold)
                if arms.trainings(claim) >= FEWEST
                else OPEN,
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def judged(effect: Interval, direction: str, threshold: float) -> str:
    """What the interval says of a claim; nothing without one.

    ``above``: reproduced where all of it is above 0 and the effect itself reaches the threshold,
    not reproduced where all of it is below the threshold (of 0: at or below 0). ``below``: the same
    with the sign turned. ``alike``: reproduced where all of it is within the threshold on both
    sides, not reproduced where all of it is beyond on one.
    """
    value, low, high = effect.value, effect.low, effect.high
    if math.isnan(value) or math.isnan(low):
        return OPEN
    if direction == "alike":
        if -threshold < low and high < threshold:
            return REPRODUCED
        return NOT if low > threshold or high < -threshold else OPEN
    if direction == "below":
        value, low, high = -value, -high, -low
    if low > 0 and value >= threshold:
        return REPRODUCED
    return NOT if high < threshold or high <= 0 else OPEN


def _contrast(claim: Claim) -> str:
    words = claim.first if claim.second is None else f"{claim.first}, less {claim.second}"
    if claim.share is None:
        return words
    return f"{words}; {claim.teacher} goes on after {claim.share:.0%}"


class _Arms:
    """The arms of a suite's results, and what is measured of each."""

    def __init__(self, results: StoredResults) -> None:
        self.results = results
        points = list(headline.points(results).itertuples())
        self.rates = {(point.task, point.method): point.learning_rate for point in points}
        self.seeds = {(point.task, point.method): len(point.seeds) for point in points}
        self._probe: list[Mapping[str, Any]] | None = None

    def effect(self, claim: Claim) -> Interval:
        """The first arm less the second; paired where both are scored on the same examples."""
        pair = [arm(claim.first), *([] if claim.second is None else [arm(claim.second)])]
        same = len({task for _, task in pair}) == 1
        if claim.measure == "accuracy" and len(pair) == 2 and same:
            frames = [self._test(*one) for one in pair]
            if any(frame is None for frame in frames):
                return NOTHING
            return statistics.difference(*frames)
        measured = [self._measured(claim, *one) for one in pair]
        return measured[0] if len(measured) == 1 else statistics.apart(*measured)

    def trainings(self, claim: Claim) -> int:
        """The fewest seeds of an arm that was trained; `FEWEST` where none was (the base)."""
        pair = [arm(claim.first), *([] if claim.second is None else [arm(claim.second)])]
        trained = [(method, task) for method, task in pair if method != "base"]
        if claim.measure in PROBED:
            counted = [int((self._probe_row(claim, *one) or {}).get("seeds", 0)) for one in trained]
        else:
            counted = [self.seeds.get((task, method), 0) for method, task in trained]
        return min(counted, default=FEWEST)

    def _measured(self, claim: Claim, method: str, task: str) -> Interval:
        if claim.measure in PROBED:
            return self._probed(claim, method, task)
        test, base = self._test(method, task), self.results.anchor("base", task, TEST)
        if test is None:
            return NOTHING
        if claim.measure == "accuracy":
            return statistics.mean(test)
        if claim.measure == "change":
            return statistics.difference(test, base)
        return statistics.gap_closed(test, base, self.results.ceiling(task, method))

    def _test(self, method: str, task: str) -> pd.DataFrame | None:
        """The test samples of an arm; None where it was not run."""
        if method == "base":
            found = self.results.anchor("base", task, TEST)
            return None if found.empty else found
        rate = self.rates.get((task, method))
        return None if rate is None else self.results.finals[task, method, rate].get(TEST)

    def _probed(self, claim: Claim, method: str, task: str) -> Interval:
        row = self._probe_row(claim, method, task)
        return NOTHING if row is None else row[claim.measure]

    def _probe_row(self, claim: Claim, method: str, task: str) -> Mapping[str, Any] | None:
        """What the probe measured of an arm, for the claim's teacher and share; None: nothing."""
        if self._probe is None:
            self._probe = prefixes.prefixes(prefixes.stored(self.results.root)).to_dict("records")
        rate = self.rates.get((task, method))
        for row in self._probe:
            known = (row["task"], row["method"], row["teacher"], row["share"])
            if known == (task, method, claim.teacher, claim.share) and (
                method == "base" or row["learning_rate"] == rate
            ):
                return row
        return None
