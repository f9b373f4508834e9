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
POWERED = (1.959964 + 0.841621) / 1.959964
"""The minimum detectable effect (two-sided 5 %, power 80 %) over half an interval of 95 %."""
NOTHING = Interval(math.nan, math.nan, math.nan, 0)


def claims(results: StoredResults) -> pd.DataFrame:
    """One row a claim of the suite, in its order: columns `COLUMNS`.

    ``effect``: the first arm less the second (or itself), an interval in shares, each arm at the
    learning rate at which its method is compared; no value where an arm was not run or probed.
    ``mde``: the effect that would show in four of five repetitions. ``word``: see `judged`.
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
                "mde": POWERED * (effect.high - effect.low) / 2,
                "word": judged(effect, claim.direction, claim.threshold),
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
        self.rates = {
            (point.task, point.method): point.learning_rate
            for point in headline.points(results).itertuples()
        }
        self._probe: pd.DataFrame | None = None

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
        return measured[0] if len(measured) == 1 else apart(*measured)

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
        if self._probe is None:
            self._probe = prefixes.prefixes(prefixes.stored(self.results.root))
        rows: list[Mapping[str, Any]] = self._probe.to_dict("records")
        rate = self.rates.get((task, method))
        for row in rows:
            known = (row["task"], row["method"], row["teacher"], row["share"])
            if known == (task, method, claim.teacher, claim.share) and (
                method == "base" or row["learning_rate"] == rate
            ):
                found: Interval = row[claim.measure]
                return found
        return NOTHING


def apart(first: Interval, second: Interval) -> Interval:
    """The difference of two that share no example: half its width is the root of both squared."""
    value = first.value - second.value
    half = math.hypot((first.high - first.low) / 2, (second.high - second.low) / 2)
    return Interval(value, value - half, value + half, min(first.n, second.n))
