"""The claims that a suite states, each tested: effect, interval, what would show, and the word."""

from __future__ import annotations

import math

import pandas as pd
from scipy import stats

from opcd_bench.config.claims import PROBED, WITHIN, Claim, arm
from opcd_bench.report.analysis import (
    crossed,
    equivalence,
    headline,
    planned,
    prefixes,
    significance,
    statistics,
)
from opcd_bench.report.analysis.load import TEST, StoredResults
from opcd_bench.report.analysis.probed_step import CHOSEN
from opcd_bench.report.analysis.statistics import Interval

COLUMNS = ["claim", "contrast", "measure", "direction", "threshold", "seeds", "planned", "effect",
           "mde", "word"]  # fmt: skip
REPRODUCED, NOT, OPEN = "reproduced", "not reproduced", "not decidable here"
PAIRED = ("accuracy", "mismatch", "change", "gap closed")
"""Measures of which two arms on one task are compared example by example."""
NOTHING = Interval(math.nan, math.nan, math.nan, 0)


def claims(results: StoredResults) -> pd.DataFrame:
    """One row a claim of the suite, in its order: columns `COLUMNS`.

    ``effect``: the first arm less the second (or itself), an interval in shares, each arm at the
    learning rate at which its method is compared; no value where an arm was not run or probed.
    ``seeds``: the trainings that it rests on, of those that were ``planned`` (NaN where nothing was
    trained). ``mde``: see `detectable`. ``word``: see `judged`; open where it rests on a single
    training, whose interval holds for that one alone, or where one that was planned is missing,
    which may be missing because it failed.
    """
    stated = [Claim.model_validate(one) for one in results.suite.get("claims", [])]
    if not stated:
        return pd.DataFrame(columns=COLUMNS)
    arms = _Arms(results)
    rows = []
    for claim in stated:
        effect, trainings = arms.effect(claim), arms.trainings(claim)
        decided = trainings is None or trainings[0] >= max(statistics.FEWEST_SEEDS, trainings[1])
        seeds = (math.nan, math.nan) if trainings is None else trainings
        rows.append(
            {
                "claim": claim.text,
                "contrast": _contrast(claim),
                "measure": claim.measure,
                "direction": claim.direction,
                "threshold": claim.threshold,
                "seeds": seeds[0],
                "planned": seeds[1],
                "effect": effect,
                "mde": detectable(effect, claim),
                "word": arms.judged(effect, claim) if decided else OPEN,
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def judged(effect: Interval, direction: str, threshold: float, *, alone: bool = False) -> str:
    """What the interval says of a claim; nothing without one.

    ``above``: reproduced where all of it is above 0 and the effect itself reaches the threshold; of
    one arm ``alone`` where all of it does. Not reproduced where all of it is below the threshold
    (of 0: at or below 0). ``below``: the same with the sign turned. ``alike``: reproduced where all
    of it is within the threshold on both sides, not reproduced where all of it is beyond on one.
    ``at least``, ``at most``: the same of one side, worse or better by less than the threshold.
    """
    value, low, high = effect.value, effect.low, effect.high
    if math.isnan(value) or math.isnan(low):
        return OPEN
    if direction in WITHIN:
        from_ = -math.inf if direction == "at most" else -threshold
        to = math.inf if direction == "at least" else threshold
        if from_ < low and high < to:
            return REPRODUCED
        return NOT if low > to or high < from_ else OPEN
    if direction == "below":
        value, low, high = -value, -high, -low
    if low > 0 and (low if alone else value) >= threshold:
        return REPRODUCED
    return NOT if high < threshold or high <= 0 else OPEN


def detectable(effect: Interval, claim: Claim, power: float = 0.8) -> float:
    """The effect for which an interval so wide says "reproduced" in ``power`` of repetitions.

    Of a direction that allows a difference: the threshold with which it does, were there none.
    """
    half = statistics.half(effect)
    error = half / statistics.quantile(effect.freedom)
    sides = 2 if claim.direction == "alike" else 1
    above = error * float(stats.t.ppf(1 - (1 - power) / sides, effect.freedom))
    if claim.direction in WITHIN:
        return half + above
    shown = error * crossed.errors_found(effect.freedom, power, 1 - statistics.CONFIDENCE)
    if claim.second is None:
        return claim.threshold + shown
    return max(claim.threshold + above, shown)


def _contrast(claim: Claim) -> str:
    pair = _pair(claim)
    if _paired(pair):
        words = f"{pair[0][0]}, less {pair[1][0]}, on {pair[0][1]}"
    else:
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
        self._probe: pd.DataFrame | None = None

    def effect(self, claim: Claim) -> Interval:
        """The first arm less the second; paired where both are scored on the same examples.

        Gaps to different ceilings are compared as if nothing were paired, which is wider.
        """
        pair = _pair(claim)
        if claim.measure in PAIRED and _paired(pair):
            both = self._both(claim)
            if both is None:
                return NOTHING
            if claim.measure != "gap closed":  # of changes the base cancels
                return statistics.difference(*both, shares=claim.measure != "mismatch")
            task = pair[0][1]
            if self._one_ceiling(pair):
                base = self.results.anchor("base", task, TEST)
                ceiling = self.results.ceiling(task, pair[0][0])
                return statistics.gap_difference(*both, base, ceiling)
        measured = [self._measured(claim, *one) for one in pair]
        return measured[0] if len(measured) == 1 else statistics.apart(*measured)

    def judged(self, effect: Interval, claim: Claim) -> str:
        """`judged`; arms of which few examples differ are neither alike nor unlike by that alone.

        Where few do, the exact p of their signs decides: t knows less of so few than it says.
        """
        word = judged(effect, claim.direction, claim.threshold, alone=claim.second is None)
        pair = _pair(claim)
        both = self._both(claim) if word == REPRODUCED and _paired(pair) else None
        if both is None or claim.measure not in PAIRED:
            return word
        if claim.direction not in WITHIN:
            if claim.measure == "gap closed" and not self._one_ceiling(pair):
                return word
            p = significance.p_of_difference(*both)
            return OPEN if p > 1 - statistics.CONFIDENCE else word
        if claim.measure in PROBED:
            return word
        x, y = statistics.paired(*both, totals=True)
        margin = claim.threshold
        if claim.measure == "gap closed":  # a share of the gap, in shares of examples
            method, task = pair[0]
            base = self.results.anchor("base", task, TEST)
            margin *= statistics.difference(self.results.ceiling(task, method), base).value
        p = equivalence.p_of_few(x, y, min(max(margin, 0.0), 1.0))
        return OPEN if p > 1 - statistics.CONFIDENCE else word

    def trainings(self, claim: Claim) -> tuple[int, int] | None:
        """The trainings that a claim rests on and those planned, of the arm that lacks most.

        Where none lacks any, of the one with fewest. Arms that are paired rest on the seeds that
        both have. None where none was trained (the base).
        """
        pair = _pair(claim)
        trained = [(method, task) for method, task in pair if method != "base"]
        if not trained:
            return None
        seeds = [self._seeds(claim, *one) for one in trained]
        planned_ = [self._planned(*one) for one in trained]
        if len(trained) == 2 and _paired(pair):
            seeds.append(set.intersection(*seeds))
            planned_.append(min(planned_))
        counts = [(len(of), wanted) for of, wanted in zip(seeds, planned_, strict=True)]
        return min(counts, key=lambda count: (count[0] - count[1], count[0]))

    def _one_ceiling(self, pair: list[tuple[str, str]]) -> bool:
        """Whether arms of one task close one gap."""
        return len({self.results.ceiling_name(task, method) for method, task in pair}) == 1

    def _both(self, claim: Claim) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        """The scores of two arms that are paired; None where one was not run or probed."""
        first, second = (self._scores(claim, *one) for one in _pair(claim))
        return None if first is None or second is None else (first, second)

    def _seeds(self, claim: Claim, method: str, task: str) -> set[int]:
        scores = self._scores(claim, method, task)
        return set() if scores is None else set(scores["seed"])

    def _planned(self, method: str, task: str) -> int:
        rate = self.rates.get((task, method))
        if rate is None:
            return 0
        key = (task, method, rate)
        return planned.seeds_planned(self.results.suite, self.results.cells, key, headline=True)

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

    def _scores(self, claim: Claim, method: str, task: str) -> pd.DataFrame | None:
        """The scores of an arm, by example and seed; None where it was not run or probed."""
        if claim.measure not in PROBED:
            return self._test(method, task)
        rows = self._continued(claim, method, task)
        lost = prefixes.lost(rows, str(claim.teacher))
        return None if lost.empty else lost

    def _test(self, method: str, task: str) -> pd.DataFrame | None:
        """The test samples of an arm; None where it was not run."""
        if method == "base":
            found = self.results.anchor("base", task, TEST)
            return None if found.empty else found
        rate = self.rates.get((task, method))
        return None if rate is None else self.results.finals[task, method, rate].get(TEST)

    def _probed(self, claim: Claim, method: str, task: str) -> Interval:
        found = prefixes.prefixes(self._continued(claim, method, task))
        mine = found[found["teacher"] == claim.teacher]
        return NOTHING if mine.empty else mine[claim.measure].iloc[0]

    def _continued(self, claim: Claim, method: str, task: str) -> pd.DataFrame:
        """What a probe made of an arm at the claim's share, each training at its chosen step."""
        if self._probe is None:
            self._probe = prefixes.stored(self.results.root)
        rows = self._probe
        rows = rows[(rows["task"] == task) & (rows["method"] == method)]
        rows = rows[rows["share"] == claim.share]
        if method != "base":
            rate = self.rates.get((task, method), math.nan)
            rows = rows[(rows["learning_rate"] == rate) & (rows["step"] == CHOSEN)]
        return rows


def _pair(claim: Claim) -> list[tuple[str, str]]:
    return [arm(words) for words in (claim.first, claim.second) if words is not None]


def _paired(pair: list[tuple[str, str]]) -> bool:
    """Whether there are two arms, scored on the same examples."""
    return len(pair) == 2 and pair[0][1] == pair[1][1]
