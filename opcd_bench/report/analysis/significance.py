"""Tests of paired differences: how sure they are, their correction, and what they can find."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from opcd_bench.report.analysis import crossed
from opcd_bench.report.analysis.crossed import Spread
from opcd_bench.report.analysis.pairing import Floats, by_seed, over_seeds, paired

PERMUTATIONS = 9999
FEW_DIFFER = 13
"""So many differences have fewer than `PERMUTATIONS` ways to flip their signs: all are tried."""


def minimum_detectable_effect(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    power: float = 0.8,
    level: float = 0.05,
    spread: Spread | None = None,
) -> float:
    """Smallest true mean difference that a paired two-sided test finds with this power.

    By the spread of seeds and examples where there are several seeds (`crossed.spread`), else of
    examples; in the unit of the scores. NaN where it is unknown: below two examples, and where all
    differ alike or not at all. ``spread``: as for `p_of_difference`. Where sign flips decide there,
    it is no less than what they find (`_found_by_flips`); infinite where these find nothing
    whatever the difference.
    """
    spread = spread or spread_of(a, b)
    x, y = paired(a, b, totals=True)
    n = len(x)
    if n < 2:
        return math.nan
    differ = np.count_nonzero(np.round(x - y, 12))
    flipped = _found_by_flips(n, power, level) if differ <= FEW_DIFFER else 0.0
    if math.isinf(flipped):
        return flipped
    if spread is None or not differ:
        return math.nan
    found = spread.detectable(power, level)
    return max(flipped, found) if _shares(a) and _shares(b) else found


def _shares(samples: pd.DataFrame) -> bool:
    """Whether all scores lie in [0, 1]."""
    return bool(samples["score"].dropna().between(0.0, 1.0).all())


def _found_by_flips(n: int, power: float, level: float) -> float:
    """The smallest share of ``n`` that must differ, one way, for sign flips to find it.

    k that differ have p = 2^(1 - k), so that 6 are needed at 5 %; from `FEW_DIFFER` on t decides,
    and no more are. As many differ with this power where the share is that quantile of a beta
    distribution (as Clopper and Pearson's bound). Infinite where ``n`` are too few.
    """
    least = math.ceil(1 - math.log2(level))
    if n > FEW_DIFFER:
        least = min(least, FEW_DIFFER + 1)
    return math.inf if n < least else float(stats.beta.ppf(power, least, n - least + 1))


def spread_of(a: pd.DataFrame, b: pd.DataFrame) -> Spread | None:
    """The spread of mean a - b; None where it is unknown: too few examples, or none differ."""
    x, y = by_seed(a, b)
    if len(x) > 1:
        return crossed.spread(x - y)
    return crossed.spread_of_examples(over_seeds(x - y))


def p_of_difference(a: pd.DataFrame, b: pd.DataFrame, spread: Spread | None = None) -> float:
    """Two-sided p that a and b have one mean, paired by example and seed.

    Of t over seeds and examples where both have several seeds, else over examples (`spread_of`).
    Where at most `FEW_DIFFER` examples differ that is no t; there it is the exact p of flipping
    their signs (`permutation_p`), if that is larger. 1 where none differs, NaN where nothing can be
    paired. ``spread``: that of a - b, where more is known of it than these two say (`moderated`).
    """
    x, y = paired(a, b, totals=True)
    differences = np.round(x - y, 12)
    spread = spread or spread_of(a, b)
    p = 0.0 if spread is None else spread.p(float(np.mean(x - y)))
    if spread is None or np.count_nonzero(differences) <= FEW_DIFFER:
        return float(np.fmax(p, permutation_p(a, b)) if len(x) else math.nan)
    return p


def permutation_p(a: pd.DataFrame, b: pd.DataFrame) -> float:
    """Two-sided p that a - b is symmetric about 0, paired by example and seed.

    The signs of the differences of examples, or of clusters of them, are flipped: in all ways where
    these are few or all are alike, else in 9,999 ways drawn with seed 0. 1 where all differences
    are 0; NaN where nothing can be paired.
    """
    x, y = paired(a, b, totals=True)
    if len(x) == 0:
        return math.nan
    differences = np.round(x - y, 12)
    differences = differences[differences != 0]  # a 0 has no sign to flip
    if len(differences) < 2:  # of one difference both signs are as extreme
        return 1.0
    if abs(np.sign(differences).sum()) == len(differences):  # nothing is as extreme but the reverse
        return float(2.0 ** (1 - len(differences)))
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
