"""Paired, clustered, seeded statistics of a comparison; scipy does the arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    """A value with its confidence interval; ``low`` and ``high`` are NaN where there is none."""

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
    return _bootstrap((values,), lambda x, axis: x.mean(axis=axis))


def difference(a: pd.DataFrame, b: pd.DataFrame) -> Interval:
    """Mean of a - b over the examples that both scored, paired by example."""
    x, y = _paired(by_example(a), by_example(b))
    return _bootstrap((x - y,), lambda d, axis: d.mean(axis=axis))


def gap_closed(method: pd.DataFrame, base: pd.DataFrame, ceiling: pd.DataFrame) -> Interval:
    """(method - base) / (ceiling - base), paired by example; NaN where there is no gap."""
    scores = [by_example(frame) for frame in (method, base, ceiling)]
    common = scores[0].index.intersection(scores[1].index).intersection(scores[2].index)
    m, b, c = (s.loc[common].to_numpy(dtype=float) for s in scores)
    if len(m) == 0 or c.mean() <= b.mean():
        return Interval(math.nan, math.nan, math.nan, len(m))

    def ratio(m: Floats, b: Floats, c: Floats, axis: int) -> Floats:
        result: Floats = (m.mean(axis=axis) - b.mean(axis=axis)) / (
            c.mean(axis=axis) - b.mean(axis=axis)
        )
        return result

    return _bootstrap((m, b, c), ratio)


def minimum_detectable_effect(
    a: pd.DataFrame, b: pd.DataFrame, *, power: float = 0.8, level: float = 0.05
) -> float:
    """Smallest true mean difference that a paired two-sided test finds with this power.

    ``(z(1 - level/2) + z(power)) * sd(d) / sqrt(n)`` with d the per-example differences; in the
    unit of the scores.
    """
    x, y = _paired(by_example(a), by_example(b))
    if len(x) < 2:
        return math.nan
    z = stats.norm.ppf(1 - level / 2) + stats.norm.ppf(power)
    return float(z * np.std(x - y, ddof=1) / math.sqrt(len(x)))


def _paired(a: pd.Series, b: pd.Series) -> tuple[Floats, Floats]:
    common = a.index.intersection(b.index)
    return a.loc[common].to_numpy(dtype=float), b.loc[common].to_numpy(dtype=float)


def _bootstrap(data: tuple[Floats, ...], statistic: object) -> Interval:
    n = len(data[0])
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    value = float(statistic(*data, axis=-1))  # type: ignore[operator]
    if n == 1:
        return Interval(value, math.nan, math.nan, 1)
    if all(np.ptp(x) == 0 for x in data):
        return Interval(value, value, value, n)
    result = stats.bootstrap(
        data,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        batch=200,
        rng=np.random.default_rng(0),
    )
    interval = result.confidence_interval
    return Interval(value, float(interval.low), float(interval.high), n)
