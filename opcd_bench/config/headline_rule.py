"""Where a method stands in a comparison: the one rule that chooses its learning rate on dev."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance
from typing import Any, Literal, NamedTuple, get_args

Rule = Literal["one_standard_error", "best"]
"""The smallest rate within one standard error of the best, or the best."""

BEFORE_THE_SETTING: Rule = "best"
"""The rule of suites that were stored before there was a choice."""


class DevScore(NamedTuple):
    """A finished run's dev accuracy at its chosen step, over ``items`` scored; NaN: unscored."""

    value: float
    items: int


def rule_of(suite: Mapping[str, Any]) -> Rule:
    """The rule that a stored suite was run with."""
    stored = suite.get("headline_rule", BEFORE_THE_SETTING)
    return stored if stored in get_args(Rule) else BEFORE_THE_SETTING


def headline_rate(rule: Rule, swept: Mapping[float, Sequence[DevScore]]) -> float:
    """The rate that gets the seeds, and at which the method is compared. ``swept``: rate -> runs.

    Only the rates with the most finished runs count: the other seeds were spent there. "best" takes
    the highest accuracy, of equals the smallest rate. "one_standard_error" takes the smallest rate
    whose accuracy is at most one standard error of the best one's below it: a difference of that
    size is within the noise of dev, and a smaller rate forgets less. Test plays no part. Rates
    without any score come last. ValueError where there is no rate.
    """
    most = max(map(len, swept.values()), default=0)
    runs = {rate: swept[rate] for rate in sorted(swept) if len(swept[rate]) == most}
    means = {rate: _mean(found) for rate, found in runs.items()}
    best = max(runs, key=means.__getitem__)  # of equals the first, which is the smallest
    if rule == "best" or math.isinf(means[best]):
        return best
    bound = means[best] - standard_error(runs[best])
    return next(rate for rate in runs if means[rate] >= bound)


def standard_error(runs: Sequence[DevScore]) -> float:
    """The standard error of the mean of some runs' dev accuracies.

    Of the items, as of right and wrong replies (for partial scores it is an upper bound): all runs
    are scored on the same, so more runs do not lower it. One right and one wrong are added, so that
    it does not vanish at 0 and 100 %. Plus the spread between the runs where there are several.
    """
    values = [run.value for run in runs if not math.isnan(run.value)]
    items = min((run.items for run in runs if not math.isnan(run.value)), default=0)
    if items == 0:
        return 0.0
    share = (fmean(values) * items + 1) / (items + 2)
    between = variance(values) / len(values) if len(values) > 1 else 0.0
    return math.sqrt(share * (1 - share) / items + between)


def _mean(runs: Sequence[DevScore]) -> float:
    """Mean of what was scored; minus infinity where nothing was."""
    values = [run.value for run in runs if not math.isnan(run.value)]
    return fmean(values) if values else -math.inf
