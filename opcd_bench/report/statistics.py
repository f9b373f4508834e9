"""Paired, clustered, seeded statistics of a comparison."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

RESAMPLES = 2000
CONFIDENCE = 0.95
METHOD = (
    f"percentile bootstrap clustered by example, {RESAMPLES} resamples, seed 0, {CONFIDENCE:.0%}"
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval over ``n`` examples.

    ``low`` and ``high`` are NaN where there is none: fewer than two examples, or all of them alike
    (resampling them says nothing), or a ratio whose denominator vanishes in some resamples.
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
            return f"{100 * self.value:.1f}"
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def by_example(samples: pd.DataFrame) -> pd.Series:
    """Mean score of each example over its seeds and samples; unscored samples are left out."""
    scored = samples[samples["score"].notna()]
    return scored.groupby("example_id", sort=True)["score"].mean().astype(float)


def mean(samples: pd.DataFrame) -> Interval:
    """The mean score with its interval."""
    values = by_example(samples).to_numpy(dtype=float)
    if len(values) == 0:
        return _nothing(0)
    return _interval(values.mean(), _resampled(values), values)


def difference(a: pd.DataFrame, b: pd.DataFrame) -> Interval:
    """Mean of a - b over the examples that both scored, paired by example."""
    x, y = _paired(by_example(a), by_example(b))
    if len(x) == 0:
        return _nothing(0)
    return _interval((x - y).mean(), _resampled(x - y), x - y)


def gap_closed(method: pd.DataFrame, base: pd.DataFrame, ceiling: pd.DataFrame) -> Interval:
    """(method - base) / (ceiling - base), paired by example; NaN where there is no gap.

    Without an interval where the gap is not above 0 in every resample: the ratio has no bounds.
    """
    m, b, c = _paired(*(by_example(frame) for frame in (method, base, ceiling)))
    if len(m) == 0 or c.mean() <= b.mean():
        return _nothing(len(m))
    gained, gap = _resampled(m - b), _resampled(c - b)
    ratios = np.divide(gained, gap, out=np.full_like(gap, math.nan), where=gap > 0)
    return _interval((m - b).mean() / (c - b).mean(), ratios, m - b, c - b)


def minimum_detectable_effect(
    a: pd.DataFrame, b: pd.DataFrame, *, power: float = 0.8, level: float = 0.05
) -> float:
    """Smallest true mean difference that a paired two-sided test finds with this power.

    ``(z(1 - level/2) + z(power)) * sd(d) / sqrt(n)`` with d the per-example differences; in the
    unit of the scores. NaN below two examples. The seeds are taken as they are: the spread between
    trainings is not in it.
    """
    x, y = _paired(by_example(a), by_example(b))
    if len(x) < 2:
        return math.nan
    z = stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power)
    return float(z * np.std(x - y, ddof=1) / math.sqrt(len(x)))


def _paired(*series: pd.Series) -> tuple[Floats, ...]:
    """The values of the examples that all the series have, in one order."""
    common = series[0].index
    for other in series[1:]:
        common = common.intersection(other.index)
    return tuple(s.loc[common].to_numpy(dtype=float) for s in series)


@lru_cache(maxsize=4)
def _shares(n: int) -> Floats:
    """Each example's share of each resample, shape (RESAMPLES, n); rows sum to 1.

    How often an example is drawn is multinomial, so a resampled mean is one product.
    """
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return counts / n


def _resampled(values: Floats) -> Floats:
    """Means over resampled examples, shape (RESAMPLES,); the same examples whatever the values."""
    means: Floats = _shares(len(values)) @ values
    return means


def _interval(value: float, resampled: Floats, *data: Floats) -> Interval:
    n = len(data[0])
    if n < 2 or all(np.ptp(x) == 0 for x in data) or np.isnan(resampled).any():
        return Interval(float(value), math.nan, math.nan, n)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high), n)


def _nothing(n: int) -> Interval:
    return Interval(math.nan, math.nan, math.nan, n)
