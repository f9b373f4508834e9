"""Paired, clustered, seeded statistics of a comparison."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from opcd_bench.report.analysis import bounds, crossed
from opcd_bench.report.analysis.crossed import Spread
from opcd_bench.report.analysis.pairing import CLUSTER, by_seed, over_seeds, ratio
from opcd_bench.report.analysis.pairing import Floats as Floats
from opcd_bench.report.analysis.pairing import by_example as by_example
from opcd_bench.report.analysis.pairing import paired as paired

RESAMPLES = 2000
CONFIDENCE = 0.95
FEWEST_SEEDS = 2
"""Trainings of a method below which nothing is concluded: one says nothing of the next."""
METHOD = (
    f"of rows with several seeds, {100 * CONFIDENCE:.0f} % over seeds and examples, both drawn "
    "anew (two-way random effects, t with Satterthwaite's degrees of freedom); with three seeds "
    "they are wide where the seeds differ, with two they hold somewhat less often than they say. "
    f"Of rows with a single seed, {100 * CONFIDENCE:.0f} % over examples for that training alone "
    f"(percentile bootstrap clustered by example, {RESAMPLES} resamples, seed 0). Shares near 0 "
    "and 100 % have Wilson's interval"
)
"""How the intervals of the tables are made, as captions say it."""
CLUSTERED = (
    "Examples of one cluster ask for the same in other words (one fact, one template) and stand or "
    "fall together, so clusters are drawn anew in place of examples"
)
"""What captions say besides where examples have clusters."""


def method(values: Iterable[object]) -> str:
    """How the intervals among some values are made: `METHOD`, and `CLUSTERED` where some are."""
    return f"{METHOD}. {CLUSTERED}" if widest(values).clusters else METHOD


def widest(values: Iterable[object]) -> Interval:
    """Of the intervals among some values that which rests on most examples; an empty one of none.

    One over clusters comes before others.
    """
    found = [one for one in values if isinstance(one, Interval)]
    nothing = Interval(math.nan, math.nan, math.nan, 0)
    return max(found, key=lambda one: (one.examples > one.n, one.examples), default=nothing)


Statistic = Callable[..., Any]
"""``statistic(*arrays, axis=-1)``: reduces that axis of every array, and keeps those before it."""


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval over ``n`` examples, and over seeds where it has many.

    Where examples have clusters, ``n`` counts these and ``examples`` the examples in them.
    ``low`` and ``high`` are NaN where there is none: fewer than two examples, or the same value
    whichever are drawn and no bound known for it, or a ratio whose denominator vanishes in some
    resamples. ``freedom``: the degrees of freedom of the t that makes it so wide; infinite where
    none does.
    """

    value: float
    low: float
    high: float
    n: int
    freedom: float = field(default=math.inf, compare=False)
    examples: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "examples", max(self.examples, self.n))

    @property
    def clusters(self) -> str:
        """`` in 12 clusters``, as it is said behind the examples; nothing where they have none."""
        if self.examples == self.n:
            return ""
        return f" in {self.n:,} cluster{'' if self.n == 1 else 's'}"

    def text(self) -> str:
        """In its own unit: ``0.120 [0.101, 0.139]``; nothing where nothing was scored."""
        if math.isnan(self.value):
            return ""
        if math.isnan(self.low):
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

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


def mean(samples: pd.DataFrame, *, shares: bool = True) -> Interval:
    """The mean score with its interval; ``shares``: scores are in [0, 1], else in any unit."""
    found = _mean(samples, shares)
    return replace(found, examples=_examples(samples))


def _mean(samples: pd.DataFrame, shares: bool) -> Interval:
    (scores_SE,) = by_seed(samples)
    found = _of_seeds(scores_SE, (0.0, 1.0) if shares else UNBOUNDED)
    return near_the_ends(found) if shares else found


def near_the_ends(found: Interval) -> Interval:
    """The interval of a share, no narrower than Wilson's where fewer than `bounds.FEW` differ."""
    n, share = found.n, found.value
    if n < 2 or min(share, 1 - share) * n >= bounds.FEW:
        return found
    low, high = bounds.wilson(share, n, CONFIDENCE)
    return replace(found, low=float(np.fmin(low, found.low)), high=float(np.fmax(high, found.high)))


def difference(
    a: pd.DataFrame, b: pd.DataFrame, *, shares: bool = True, spread: Spread | None = None
) -> Interval:
    """Mean of a - b over the examples that both scored, paired by example and seed.

    Of ``shares``, two that differ on few examples, or wholly on each, are no surer than the exact
    bounds of what may come out otherwise elsewhere. ``spread``: that of a - b, where more is known
    of it than these two say (`moderated`).
    """
    x, y = by_seed(a, b)
    found = _of_seeds(x - y, (-1.0, 1.0) if shares else UNBOUNDED, spread)
    found = replace(found, examples=min(_examples(a), _examples(b)))
    if not shares or found.n < 2:
        return found
    if math.isnan(found.low) and found.value in (-1.0, 1.0) and found.n > bounds.FEW:
        rare = bounds.rare(found.n, CONFIDENCE)
        low, high = max(found.value - rare, -1.0), min(found.value + rare, 1.0)
        return replace(found, low=low, high=high)
    return _no_surer(found, a, b)


def _no_surer(
    found: Interval, a: pd.DataFrame, b: pd.DataFrame, at: float = 0.0, scale: float = 1.0
) -> Interval:
    """An interval of ``at`` + the mean of (a - b) / scale, of shares, that is not too narrow.

    Where a and b differ on no more than `bounds.FEW` examples or clusters, resamples and t know too
    little of how often they may: it holds at least what `bounds.difference` allows.
    """
    x, y = paired(a, b, totals=True)
    differences = np.round(x - y, 12)
    n = len(differences)
    if n < 2 or np.count_nonzero(differences) > bounds.FEW:
        return found
    up, down = (min(float(part.clip(0).sum()), n) for part in (differences, -differences))
    low, high = (at + bound / scale for bound in bounds.difference(up, down, n, CONFIDENCE))
    return replace(found, low=float(np.fmin(found.low, low)), high=float(np.fmax(found.high, high)))


def _examples(samples: pd.DataFrame) -> int:
    """The examples of clusters that are scored; 0 without clusters."""
    if CLUSTER not in samples:
        return 0
    return int(samples.loc[samples["score"].notna(), "example_id"].nunique())


def gap(base: pd.DataFrame, ceiling: pd.DataFrame) -> float:
    """Ceiling less base, paired by example; NaN where it is not shown to be above 0."""
    c, b = by_seed(ceiling, base)
    gap_E = over_seeds(c - b)
    return float(np.mean(gap_E)) if _above_zero(gap_E) else math.nan


def gap_closed(method: pd.DataFrame, base: pd.DataFrame, ceiling: pd.DataFrame) -> Interval:
    """(method - base) / (ceiling - base), paired by example.

    NaN where `gap` is: a ratio to chance means nothing.
    Where all but a few examples come out as the ceiling's or as the base's, it is no surer than
    `difference` is of these, as a share of the gap.
    """
    m, b, c = by_seed(method, base, ceiling)
    gap_E = over_seeds(c - b)
    found = interval_of(_share_of_gap, over_seeds(m - b), gap_E)
    found = replace(found, examples=_examples(method))
    if not _above_zero(gap_E):
        return replace(found, value=math.nan, low=math.nan, high=math.nan)
    if not math.isnan(found.low):
        found = _of_ratio(found, m - b, c - b, UNBOUNDED)
    for other, share in ((ceiling, 1.0), (base, 0.0)):
        found = _no_surer(found, method, other, share, float(np.mean(gap_E)))
    return found


def gap_difference(
    first: pd.DataFrame, second: pd.DataFrame, base: pd.DataFrame, ceiling: pd.DataFrame
) -> Interval:
    """(first - second) / (ceiling - base), paired by example and seed: one's gap less the other's.

    NaN where `gap_closed` is. Where the two differ on few examples, it is no surer than
    `difference` is, as a share of the gap.
    """
    x, y, b, c = by_seed(first, second, base, ceiling)
    gap_E = over_seeds(c - b)
    found = interval_of(_share_of_gap, over_seeds(x - y), gap_E)
    found = replace(found, examples=min(_examples(first), _examples(second)))
    if not _above_zero(gap_E):
        return replace(found, value=math.nan, low=math.nan, high=math.nan)
    if not math.isnan(found.low):
        found = _of_ratio(found, x - y, c - b, UNBOUNDED)
    return _no_surer(found, first, second, scale=float(np.mean(gap_E)))


def among(
    scores: pd.DataFrame, inside: pd.DataFrame, within: tuple[float, float] = (0.0, 1.0)
) -> Interval:
    """The mean score of some responses: sum of ``scores`` over sum of ``inside``, with interval.

    Both by example and seed: ``inside`` has the share of responses that count, ``scores`` are 0 of
    all others. A ratio of two means, each response counting once however often an example has one;
    its error is that of the residuals (Cochran 1977, section 6.8), and ``n`` the examples with any.
    """
    s, w = by_seed(scores, inside)
    found = interval_of(_share_of_gap, over_seeds(s), over_seeds(w))
    _, inside_E = paired(scores, inside, totals=True)
    n = int((inside_E > 0).sum())
    found = Interval(found.value, found.low, found.high, n)
    if math.isnan(found.value):
        return found
    found = _of_ratio(found, s, w, within)
    if math.isnan(found.low) and n > 1 and found.value in (*within, 0.0):
        rare = bounds.rare(n, CONFIDENCE)
        low, high = max(found.value - rare, within[0]), min(found.value + rare, within[1])
        return Interval(found.value, low, high, n)
    return found


def _of_ratio(
    found: Interval, over_SE: Floats, under_SE: Floats, within: tuple[float, float]
) -> Interval:
    """A ratio of two means, over seeds and examples where there are several: by its residuals."""
    mean = float(np.mean(over_seeds(under_SE)))
    spread = crossed.spread((over_SE - found.value * under_SE) / mean)
    if spread is None:
        return found
    return replace(_around(found.value, spread, found.n, within), examples=found.examples)


def _above_zero(scores_E: Floats) -> bool:
    """Whether the mean of several examples is above 0 for sure."""
    found = interval_of(np.mean, scores_E)
    return found.n > 1 and (found.low > 0 or (math.isnan(found.low) and found.value > 0))


def _share_of_gap(gained: Floats, gap: Floats, axis: int = -1) -> Floats:
    return ratio(np.mean(gained, axis=axis), np.mean(gap, axis=axis))


UNBOUNDED = (-math.inf, math.inf)


def mean_over_seeds(scores_SE: Floats) -> Interval:
    """The mean of scores in any unit, of shape (seeds, examples), with its interval."""
    return _of_seeds(scores_SE, UNBOUNDED)


def _of_seeds(
    scores_SE: Floats, within: tuple[float, float], spread: Spread | None = None
) -> Interval:
    """Over seeds and examples where there are several seeds, else over examples."""
    scores_E = over_seeds(scores_SE)
    spread = spread if len(scores_SE) > 1 and spread else crossed.spread(scores_SE)
    if spread is None:
        found = interval_of(np.mean, scores_E)  # of clusters, an entry may lie outside
        low, high = max(found.low, within[0]), min(found.high, within[1])
        return found if math.isnan(found.low) else replace(found, low=low, high=high)
    return _around(float(np.mean(scores_E)), spread, len(scores_E), within)


def _around(value: float, spread: Spread, n: int, within: tuple[float, float]) -> Interval:
    half = spread.half(CONFIDENCE)
    low, high = max(value - half, within[0]), min(value + half, within[1])
    return Interval(value, low, high, n, spread.freedom)


def quantile(freedom: float) -> float:
    """Standard errors on each side of an interval of t with these degrees of freedom."""
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))


def half(interval: Interval) -> float:
    """Half the width of an interval, by its wider side: a share's other one is cut off at 0 or 1.

    NaN without an interval.
    """
    return max(interval.value - interval.low, interval.high - interval.value)


def apart(first: Interval, second: Interval) -> Interval:
    """The difference of two that share no example, each side by Welch (1947) from both intervals.

    Each one's standard error is its half width by the t that made it; the degrees of freedom of
    both are Satterthwaite's. Of intervals without t that is the root of both half widths squared.
    """
    value, n = first.value - second.value, min(first.n, second.n)
    examples = min(first.examples, second.examples)
    freedoms = first.freedom, second.freedom
    below = _welch((first.value - first.low, second.high - second.value), freedoms)
    above = _welch((first.high - first.value, second.value - second.low), freedoms)
    freedom = min(below.freedom, above.freedom)
    return Interval(value, value - below.half, value + above.half, n, freedom, examples)


class _Side(NamedTuple):
    """One side of an interval."""

    half: float
    freedom: float


def _welch(halves: tuple[float, float], freedoms: tuple[float, float]) -> _Side:
    """One side of the interval of a difference, from those of its two parts."""
    errors = [(half / quantile(one)) ** 2 for half, one in zip(halves, freedoms, strict=True)]
    unsure = sum(error**2 / one for error, one in zip(errors, freedoms, strict=True))
    freedom = sum(errors) ** 2 / unsure if unsure > 0 else math.inf
    return _Side(quantile(freedom) * math.sqrt(sum(errors)), freedom)


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
