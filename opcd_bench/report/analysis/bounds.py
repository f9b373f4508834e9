"""Intervals of shares where nothing or hardly anything varies, of which resampling says nothing."""

from __future__ import annotations

import math

from scipy import stats

FEW = 5
"""Below so many right, or wrong, examples an interval of resamples is too narrow."""


def wilson(share: float, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a share of ``n`` examples (1927); the share may be a mean of any.

    Of partial scores and of means over seeds it is on the safe side: nothing in [0, 1] varies more
    than right and wrong do.
    """
    z = float(stats.norm.ppf((1 + confidence) / 2))
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # Exactly 0 and 1 where all are wrong or right, which round-off misses by 1e-17.
    low = max(middle - half, 0.0) if share > 0 else 0.0
    return low, min(middle + half, 1.0) if share < 1 else 1.0


def exact(count: float, n: int, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's bounds (1934) of a share of which ``count`` of ``n`` are.

    A sum of partial ones, too, as for `wilson`.
    """
    beyond = (1 - confidence) / 2
    low = float(stats.beta.ppf(beyond, count, n - count + 1)) if count > 0 else 0.0
    return low, float(stats.beta.ppf(1 - beyond, count + 1, n - count)) if count < n else 1.0


def rare(n: int, confidence: float) -> float:
    """The largest share of examples that may differ though none of ``n`` does: `exact`."""
    return exact(0, n, confidence)[1]


def difference(up: float, down: float, n: int, confidence: float) -> tuple[float, float]:
    """Bounds of a mean of ``n`` differences of shares: a sum of ``up`` less one of ``down``.

    `exact` ones of those above 0, less those of the ones below: with 5 that differ, all one way,
    they hold 0, as the exact p of their signs does (1 in 16).
    """
    above, below = exact(up, n, confidence), exact(down, n, confidence)
    return max(above[0] - below[1], -1.0), min(above[1] - below[0], 1.0)
