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


def rare(n: int, confidence: float) -> float:
    """The largest share of examples that may differ though none of ``n`` does: the exact bound.

    Two-sided, after Clopper and Pearson (1934).
    """
    result = stats.binomtest(0, n).proportion_ci(confidence, method="exact")
    return float(result.high)
