"""Whether two methods are alike: their difference is shown to be smaller than a stated margin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from opcd_bench.report.analysis import bounds, significance, statistics
from opcd_bench.report.analysis.crossed import Spread
from opcd_bench.report.analysis.pairing import Floats

MARGIN = 0.05
"""Of suites that state none: 5 points of accuracy, or of the gap."""
MARGIN_IN_NATS = 0.05
"""For measures in nats: a token's probability that is 5 % larger or smaller."""


def margin(suite: Mapping[str, Any], unit: str) -> float:
    """The margin that a stored suite states for a unit; a smaller difference counts as none."""
    if unit == "nats":
        return MARGIN_IN_NATS
    return float(suite.get("equivalence_margin", MARGIN))


def p_of_equivalence(
    a: pd.DataFrame,
    b: pd.DataFrame,
    margin: float,
    *,
    shares: bool,
    spread: Spread | None = None,
) -> float:
    """The p of two one-sided tests: small where mean a - b is neither -margin or less nor more.

    Schuirmann (1987), paired by example and seed; over seeds and examples where both have several
    seeds, else over examples. ``shares``: scores are in [0, 1]; where fewer than `bounds.FEW`
    examples differ it is the exact probability of so few, were a share of ``margin`` to differ, if
    that is larger. NaN where nothing is known: nothing to pair, or no spread in another unit.
    ``spread``: as for `significance.p_of_difference`.
    """
    x, y = statistics.paired(a, b, totals=True)
    if len(x) < 2:
        return math.nan
    spread = spread or significance.spread_of(a, b)
    if spread is None:
        none_differs = not np.round(x - y, 12).any()
        return p_of_few(x, y, margin) if none_differs and shares else math.nan
    p = spread.p_beyond(float(np.mean(x - y)), margin)
    return max(p, p_of_few(x, y, margin)) if shares else p


def p_of_few(x: Floats, y: Floats, margin: float) -> float:
    """The exact probability that so few examples differ, were a share of ``margin`` to.

    0 from `bounds.FEW` on: the spread of their differences is known then.
    """
    differs = int((np.round(x - y, 12) != 0).sum())
    return float(stats.binom.cdf(differs, len(x), margin)) if differs < bounds.FEW else 0.0
