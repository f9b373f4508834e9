"""The area that a method's points of gain and retention dominate, and its bootstrap."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from opcd_bench.report.analysis.statistics import CONFIDENCE, RESAMPLES, Floats, Interval

Index = npt.NDArray[np.int64]


class Area(NamedTuple):
    """A dominated area, or a difference of two, and the bootstrap's estimate of its bias."""

    interval: Interval
    bias: float


@dataclass(frozen=True)
class Fronts:
    """The points of all methods of a task on one retention task, item by item.

    ``owner``: each point's method, as its number in ``methods``; ``gained`` (points, dev items) and
    ``kept`` (points, retention items): differences to the base, NaN = unscored; ``before``
    (retention items): the base; ``gap`` (test items): ceiling minus base.
    """

    methods: tuple[str, ...]
    owner: Index
    gained: Floats
    kept: Floats
    before: Floats
    gap: Floats

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The numbers of two methods, each pair once."""
        return list(combinations(range(len(self.methods)), 2))

    def measured(self) -> tuple[list[Area], list[Area]]:
        """The area of each method, and the difference of each of ``pairs``.

        One bootstrap for all: every resample draws dev, retention and test items anew, each set on
        its own, the same for all points. Bounds are NaN where nothing varies or where the gap is
        not above 0 in every resample; values too where there is no gap or nothing to resample.
        """
        sizes = [self.gained.shape[-1], self.kept.shape[-1], len(self.gap)]
        count, n = len(self.methods), min(sizes)
        if n == 0:
            nothing = Area(Interval(math.nan, math.nan, math.nan, 0), math.nan)
            return [nothing] * count, [nothing] * len(self.pairs)
        items = [np.arange(size) for size in sizes]
        values = self._values(*items)[:, 0]
        if n < 2:
            found = [Area(Interval(float(v), math.nan, math.nan, n), math.nan) for v in values]
            return found[:count], found[count:]
        with warnings.catch_warnings():  # of NaN among the resamples, which _area looks for
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            drawn = stats.bootstrap(
                items,
                self._values,
                paired=False,
                vectorized=True,
                n_resamples=RESAMPLES,
                confidence_level=CONFIDENCE,
                method="percentile",
                rng=0,
            )
        low, high = drawn.confidence_interval
        each = zip(values, low, high, drawn.bootstrap_distribution, strict=True)
        found = [_area(*one, n) for one in each]
        return found[:count], found[count:]

    def _values(self, *drawn: Index, axis: int = -1) -> Floats:
        """Areas, then differences, by dev, retention and test items drawn: (values, resamples)."""
        of_dev, of_kept, of_test = (_shares(items) for items in drawn)
        before = _means(self.before[None], of_kept)
        gain, after = _means(self.gained, of_dev), before + _means(self.kept, of_kept)
        whole = _means(self.gap[None], of_test) * before
        each = [
            union(gain[self.owner == i], after[self.owner == i]) for i in range(len(self.methods))
        ]
        areas = np.stack(each)
        shares = np.divide(areas, whole, out=np.full_like(areas, math.nan), where=whole > 0)
        pairs = [shares[a] - shares[b] for a, b in self.pairs]
        # Rounded, so that two alike methods differ by 0 and not by the last digit of a sum.
        return np.round(np.stack([*shares, *pairs]), 12)


def union(gain: Floats, kept: Floats) -> Floats:
    """Area of the union of the rectangles from (0, 0) to (gain, kept), both cut off below 0.

    Shapes (points, …) -> (…). From the largest gain to the smallest, each point adds the width down
    to the next one at the best retention so far.
    """
    order = np.argsort(-gain, axis=0, kind="stable")
    widths = np.take_along_axis(np.maximum(gain, 0.0), order, axis=0)
    widths = widths - np.concatenate([widths[1:], np.zeros_like(widths[:1])])
    heights = np.take_along_axis(np.maximum(kept, 0.0), order, axis=0)
    area: Floats = (widths * np.maximum.accumulate(heights, axis=0)).sum(axis=0)
    return area


def _shares(drawn: Index) -> Floats:
    """Each item's share of each resample, from the numbers of the items drawn: rows sum to 1."""
    rows = np.atleast_2d(drawn)
    count, n = rows.shape
    flat = (rows + n * np.arange(count)[:, None]).ravel()
    shares: Floats = np.bincount(flat, minlength=count * n).reshape(count, n) / n
    return shares


def _means(scores: Floats, shares: Floats) -> Floats:
    """Mean of each row over the items of each resample that it scored: (rows, resamples)."""
    scored = ~np.isnan(scores)
    total: Floats = np.where(scored, scores, 0.0) @ shares.T
    if scored.all():
        return total
    weight = scored @ shares.T
    return np.divide(total, weight, out=np.full_like(total, math.nan), where=weight > 0)


def _area(value: float, low: float, high: float, drawn: Floats, n: int) -> Area:
    if np.isnan(value) or np.isnan(drawn).any() or np.ptp(drawn) == 0:
        return Area(Interval(float(value), math.nan, math.nan, n), math.nan)
    return Area(Interval(float(value), float(low), float(high), n), float(drawn.mean() - value))
