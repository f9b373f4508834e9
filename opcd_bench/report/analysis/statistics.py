"""Paired, clustered, seeded statistics of a comparison."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from opcd_bench.report.analysis.pairing import Floats as Floats
from opcd_bench.report.analysis.pairing import by_example as by_example
from opcd_bench.report.analysis.pairing import paired as paired
from opcd_bench.report.analysis.pairing import ratio

RESAMPLES = 2000
PERMUTATIONS = 9999
CONFIDENCE = 0.95
METHOD = (
    f"percentile bootstrap clustered by example, {RESAMPLES} resamples, seed 0, "
    f"{100 * CONFIDENCE:.0f} %"
)

Statistic = Callable[..., Any]
"""``statistic(*arrays, axis=-1)``: reduces that axis of every array, and keeps those before it."""


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval over ``n`` examples.

    ``low`` and ``high`` are NaN where there is none: fewer than two examples, or the same value
    whichever are drawn (resampling says nothing), or a ratio whose denominator vanishes in some
    resamples.
    """

    value: float
    low: float
    high: float
    n: int

    def points(self) -> str:
        """As percentage points: ``62.0 [58.1, 65.9]``; a dash where nothing was scored."""
        if math.isnan(self.value):
            return "–"
        if math.isnan(self.low):
            return _point(self.value)
        return f"{_point(self.value)} [{_point(self.low)}, {_point(self.high)}]"


def _point(share: float) -> str:
    """A share in percentage points; never ``-0.0``."""
    return f"{round(100 * share, 1) + 0.0:.1f}"


def mean(samples: pd.DataFrame) -> Interval:
    """The mean score with its interval."""
    return interval_of(np.mean, by_example(samples).to_numpy(dtype=float))


def difference(a: pd.DataFrame, b: pd.DataFrame) -> Interval:
    """Mean of a - b over the examples that both scored, paired by example and seed."""
    x, y = paired(a, b)
    return interval_of(np.mean, x - y)


def gap_closed(method: pd.DataFrame, base: pd.DataFrame, ceiling: pd.DataFrame) -> Interval:
    """(method - base) / (ceiling - base), paired by example; NaN where there is no gap.

    Without an interval where the gap is not above 0 in every resample: the ratio has no bounds.
    """
    m, b, c = paired(method, base, ceiling)
    return interval_of(_share_of_gap, m - b, c - b)


def _share_of_gap(gained: Floats, gap: Floats, axis: int = -1) -> Floats:
    return ratio(np.mean(gained, axis=axis), np.mean(gap, axis=axis))


def interval_of(statistic: Statistic, *arrays: Floats) -> Interval:
    """``statistic`` of arrays of one length, an entry an example, with its bootstrap interval.

    The examples are resampled, each with its entry in every array. No value for no example.
    """
    return _interval_of(statistic, *(_Exactly(np.asarray(array, dtype=float)) for array in arrays))


class _Exactly:
    """An array as a key: equal where shape and bytes are."""

    def __init__(self, array: Floats) -> None:
        self.array = array
        self._key = (array.shape, array.tobytes())

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Exactly) and self._key == other._key


@lru_cache(maxsize=2048)
def _interval_of(statistic: Statistic, *keys: _Exactly) -> Interval:
    """Kept, since base and ceiling are asked for by every row of a table."""
    arrays = [key.array for key in keys]
    n = len(arrays[0])
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    value = float(statistic(*arrays, axis=-1))
    return _bootstrapped(statistic, arrays, value, n)


def _bootstrapped(
    statistic: Statistic, data: Sequence[npt.NDArray[Any]], value: float, n: int
) -> Interval:
    without = Interval(value, math.nan, math.nan, n)
    if n < 2 or math.isnan(value):
        return without
    with warnings.catch_warnings():  # of NaN among the resamples, which is looked for below
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            data,
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            paired=True,
            vectorized=True,
            rng=0,
        )
    drawn = found.bootstrap_distribution
    if np.isnan(drawn).any() or np.ptp(drawn) == 0:
        return without
    low, high = found.confidence_interval
    return Interval(value, float(low), float(high), n)


def minimum_detectable_effect(
    a: pd.DataFrame, b: pd.DataFrame, *, power: float = 0.8, level: float = 0.05
) -> float:
    """Smallest true mean difference that a paired two-sided test finds with this power.

    ``(z(1 - level/2) + z(power)) * sd(d) / sqrt(n)`` with d the per-example differences; in the
    unit of the scores. NaN below two examples. The seeds are taken as they are: the spread between
    trainings is not in it.
    """
    x, y = paired(a, b)
    if len(x) < 2:
        return math.nan
    z = stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power)
    return float(z * np.std(x - y, ddof=1) / math.sqrt(len(x)))


def permutation_p(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """Two-sided p that a - b is symmetric about 0, paired by example and seed.

    The signs of the per-example differences are flipped: in all ways where these are few, else in
    9,999 ways drawn with seed 0. 1 where all differences are 0; NaN where nothing can be paired.
    """
    x, y = paired(a, b)
    if len(x) == 0:
        return math.nan
    differences = np.round(x - y, 12)
    differences = differences[differences != 0]  # a 0 has no sign to flip
    if len(differences) < 2:  # of one difference both signs are as extreme
        return 1.0
    if 2 ** len(differences) <= PERMUTATIONS:
        exact = stats.permutation_test(
            (differences,), np.sum, permutation_type="samples", n_resamples=PERMUTATIONS,
            vectorized=True,
        )  # fmt: skip
        return float(exact.pvalue)
    # Of k differences of one size a binomial number stays positive: one draw instead of k.
    sizes, places, counts = np.unique(np.abs(differences), return_inverse=True, return_counts=True)
    observed = np.bincount(places, weights=differences)
    draw = np.random.default_rng(0)

    def flipped(size: tuple[int, ...]) -> Floats:
        flips: Floats = sizes * (2 * draw.binomial(counts, 0.5, size=size) - counts)
        return flips

    drawn = stats.monte_carlo_test(
        observed, flipped, np.sum, n_resamples=PERMUTATIONS, vectorized=True
    )
    return float(drawn.pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction of the p-values of one family, in the order given.

    Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    order = np.argsort(p, kind="stable")
    corrected = np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(corrected), 1.0)
    return [float(value) for value in adjusted]
