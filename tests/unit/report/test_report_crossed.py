"""Intervals over seeds and examples hold what they say; what pairs lend each other is earned."""

import math

import numpy as np
import pytest
from scipy import stats

from opcd_bench.report.analysis import crossed, significance
from opcd_bench.report.analysis.crossed import Spread
from opcd_bench.report.analysis.moderated import moderated


def test_the_mean_squares_are_those_of_a_two_way_analysis_of_variance():
    """Three seeds, four examples, by hand: rows add 0, 1, 2; columns 0, 2, 4, 6; no rest."""
    scores = np.add.outer([0.0, 1.0, 2.0], [0.0, 2.0, 4.0, 6.0])
    found = crossed.spread(scores)
    assert found.seeds == pytest.approx(4 * 1.0)
    assert found.examples == pytest.approx(3 * np.var([0, 2, 4, 6], ddof=1))
    assert found.both == pytest.approx(0)
    assert found.error == pytest.approx(math.sqrt(1.0 / 3 + np.var([0, 2, 4, 6], ddof=1) / 4))
    assert (found.seeds_freedom, found.examples_freedom) == (2, 3)


def test_seeds_alone_have_t_of_the_seeds():
    """Nothing differs between examples: t with two degrees of freedom, whatever their number."""
    scores = np.repeat([[0.1], [0.2], [0.3]], 500, axis=1)
    found = crossed.spread(scores)
    assert found.freedom == pytest.approx(2)
    assert found.half(0.95) == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem([0.1, 0.2, 0.3]))


def test_what_varies_by_neither_has_no_spread():
    assert crossed.spread(np.ones((3, 50))) is None
    assert crossed.spread(np.array([[0.0, 1.0]])) is None  # one seed
    assert crossed.spread(np.array([[0.0], [1.0]])) is None  # one example
    assert crossed.spread_of_examples(np.ones(9)) is None


def test_examples_that_a_seed_lacks_are_left_out():
    scores = np.array([[0.0, 1.0, 0.5, math.nan], [1.0, 1.0, 0.5, 9.0]])
    assert crossed.spread(scores) == crossed.spread(scores[:, :3])


def test_a_seed_that_failed_on_nearly_all_does_not_make_a_row_of_one_training():
    """Without it two seeds are left, which know how they differ by one degree of freedom."""
    draw = np.random.default_rng(1)
    scores = (draw.random((3, 200)) < np.array([[0.5], [0.6], [0.7]])).astype(float)
    for left in (0, 1, 5):
        partial = scores.copy()
        partial[2, left:] = math.nan
        assert crossed.spread(partial) == crossed.spread(scores[:2]), left
    partial = scores.copy()
    partial[2, 190:] = math.nan
    assert crossed.spread(partial) == crossed.spread(scores[:, :190])


def test_seeds_without_an_example_in_common_vary_as_their_means():
    scores = np.full((2, 200), math.nan)
    scores[0, :100], scores[1, 100:] = 0.4, 0.6
    found = crossed.spread(scores)
    assert found.error == pytest.approx(0.1) and found.freedom == pytest.approx(1)


@pytest.mark.parametrize(
    ("seeds", "spread", "least"), [(3, 0.0, 0.94), (3, 0.4, 0.9), (5, 0.4, 0.92), (2, 0.4, 0.78)]
)
def test_intervals_hold_the_truth_with_few_seeds(seeds, spread, least):
    """500 experiments of binary scores; a bootstrap of both holds it in 75 % of the second kind."""
    draw = np.random.default_rng(0)
    truth = stats.norm.cdf(0.3 / math.sqrt(1 + spread**2 + 0.3**2))
    hits = 0
    for _ in range(500):
        latent = draw.normal(0.3, 1, 150) + draw.normal(0, spread, (seeds, 1))
        scores = (latent + draw.normal(0, 0.3, (seeds, 150)) > 0).astype(float)
        found = crossed.spread(scores)
        hits += abs(scores.mean() - truth) <= found.half(0.95)
    assert least <= hits / 500 <= 0.99


def test_the_smallest_difference_with_seeds_is_the_closed_form():
    found = Spread(count=12, examples=3.0, examples_freedom=3, seeds=6.0, seeds_freedom=2, both=1.0)
    freedom = 8**2 / (36 / 2 + 9 / 3)
    least = found.detectable(0.8, 0.05)
    bound = stats.t.ppf(0.975, freedom)
    assert stats.nct.sf(bound, freedom, least / math.sqrt(8 / 12)) == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize("freedom", [1.0, 2.0, 3.0, 20.0])
def test_what_is_detectable_is_found_in_four_of_five_also_with_few_degrees(freedom):
    draw = np.random.default_rng(0)
    for level in (0.05, 0.05 / 120):
        effect = crossed.errors_found(freedom, 0.8, level)
        t = (effect + draw.normal(size=100_000)) / np.sqrt(
            draw.chisquare(freedom, 100_000) / freedom
        )
        found = 2 * stats.t.sf(np.abs(t), freedom) <= level
        assert found.mean() == pytest.approx(0.8, abs=0.005)
    assert crossed.errors_found(math.inf, 0.8, 0.05) == pytest.approx(2.8016, abs=1e-4)


# --- what pairs say together ----------------------------------------------------------------------


def of_seeds(variance, seeds=3):
    return Spread(seeds * 100, 1e-9, 99, seeds=variance, seeds_freedom=seeds - 1)


def test_variances_that_are_alike_are_drawn_together_and_gain_degrees():
    """Of ten methods with three seeds a third of 9 x 2 degrees may be lent: six."""
    alike = moderated([of_seeds(v) for v in (0.9, 1.0, 1.1, 0.95, 1.05)], 10)
    assert {one.seeds_freedom for one in alike} == {8.0}
    assert all(0.9 < one.seeds < 1.9 for one in alike)


def test_variances_that_are_far_apart_lend_hardly_anything():
    apart = moderated([of_seeds(10.0**k) for k in range(-8, 8)], 40)
    assert all(one.seeds_freedom < 2.5 for one in apart)


def test_few_methods_and_unknown_spreads_stay_as_they_are():
    two = [of_seeds(1.0), None, of_seeds(2.0)]
    assert moderated(two, 3) == two
    of_examples = [Spread(9, 1.0, 8)] * 4
    assert moderated(of_examples, 4) == of_examples
    some = moderated([None, *map(of_seeds, (1.0, 1.1, 0.9))], 4)
    assert some[0] is None and some[1].seeds_freedom > 2


def test_seeds_that_agree_but_for_rounding_are_no_variance_and_are_lent_one():
    """0.1 and 0.3 more in each of three seeds: a mean square of 1e-32, or of 0 by luck."""
    draw = np.random.default_rng(0)
    examples = draw.random(200)
    by_luck = crossed.spread(examples + np.array([[0.1 + 0.2], [0.3], [0.3]]))
    assert by_luck.seeds == 0.0 and by_luck.seeds_freedom == 2
    others = [of_seeds(v) for v in (0.9, 1.0, 1.1)]
    lent = moderated([*others, by_luck], 6)
    assert lent[:3] == moderated(others, 6)
    assert lent[3].seeds_freedom == lent[0].seeds_freedom > 2
    assert 0 < lent[3].seeds < lent[0].seeds
    more = of_seeds(1e6)
    assert moderated(others, 6, [more])[:3] == lent[:3], "what only borrows has no say"
    assert 1e6 > moderated(others, 6, [more])[3].seeds > 1e5


@pytest.mark.parametrize("unlike", [1.0, 5.0])
def test_of_suites_without_a_difference_one_in_twenty_shows_one(unlike):
    """300 suites of six methods with three seeds, of equal spread or of one up to five-fold."""
    draw, wrong, found = np.random.default_rng(0), 0, 0
    pairs = [(a, b) for a in range(6) for b in range(a + 1, 6)]
    for _ in range(300):
        sizes = np.exp(draw.normal(0, math.log(unlike) / 2 + 1e-9, (6, 1)))
        seeds = draw.normal(size=(6, 3)) * sizes
        for shift in (0.0, 6.0):
            moved = seeds + shift * (np.arange(6) < 3)[:, None]
            differences = [moved[a] - moved[b] for a, b in pairs]
            spreads = moderated([of_seeds(100 * np.var(d, ddof=1)) for d in differences], 6)
            p = [s.p(d.mean()) for s, d in zip(spreads, differences, strict=True)]
            sure = np.array(significance.holm(p)) <= 0.05
            if shift == 0:
                wrong += sure.any()
            else:
                found += sum(sure[i] for i, (a, b) in enumerate(pairs) if a < 3 <= b)
    assert wrong / 300 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)
    assert found / (300 * 9) > (0.9 if unlike == 1 else 0.5)
