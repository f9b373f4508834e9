"""Intervals are paired, clustered by example, seeded, and cover what they say."""

import math

import numpy as np
import pandas as pd
import pytest

from opcd_bench.report import statistics


def samples(scores, *, first: int = 0, seed: int = 0) -> pd.DataFrame:
    """One sample an example, in order; ids start at ``first``."""
    ids = [f"e{i:04d}" for i in range(first, first + len(scores))]
    return pd.DataFrame({"example_id": ids, "seed": seed, "score": np.asarray(scores, float)})


def bernoulli(p: float, n: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < p).astype(float)


def test_the_interval_is_what_a_loop_over_resamples_gives():
    """Against the definition: draw examples with replacement, take the difference of means."""
    a, b = bernoulli(0.7, 60, 1), bernoulli(0.5, 60, 2)
    found = statistics.difference(samples(a), samples(b))
    draw = np.random.default_rng(3)
    means = [(a - b)[draw.integers(0, 60, 60)].mean() for _ in range(20_000)]
    low, high = np.quantile(means, [0.025, 0.975])
    assert found.value == pytest.approx((a - b).mean())
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)
    assert found.n == 60


def test_the_same_data_give_the_same_interval_twice_and_in_any_order():
    frame = samples(bernoulli(0.4, 50, 0))
    assert statistics.mean(frame) == statistics.mean(frame.sample(frac=1, random_state=1))


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """1,000 experiments of 80 examples each; binomial noise of the coverage is 0.7 points."""
    draw = np.random.default_rng(0)
    truth = 0.15
    hits = 0
    for _ in range(1000):
        hard = draw.random(80)  # what an example's two scores share: pairing must use it
        a, b = (hard < 0.55).astype(float), (hard < 0.40).astype(float)
        flips = draw.random(80) < 0.2
        a[flips], b[flips] = draw.random(flips.sum()) < 0.55, draw.random(flips.sum()) < 0.40
        found = statistics.difference(samples(a), samples(b))
        hits += found.low <= truth <= found.high
    assert 930 <= hits <= 970


def test_seeds_of_one_example_are_no_further_evidence():
    """Clustering: three copies of every score leave the interval as it was."""
    scores = bernoulli(0.5, 40, 0)
    one = samples(scores)
    three = pd.concat([samples(scores, seed=s) for s in range(3)])
    assert statistics.mean(three) == statistics.mean(one)


def test_pairing_takes_out_what_both_methods_share():
    hard = bernoulli(0.5, 200, 0)
    better = hard.copy()
    better[:10] = 1.0
    paired = statistics.difference(samples(better), samples(hard))
    shuffled = samples(np.random.default_rng(1).permutation(hard))
    apart = statistics.difference(samples(better), shuffled)
    assert paired.high - paired.low < 0.5 * (apart.high - apart.low)


def test_only_examples_that_both_scored_are_compared():
    a = samples([1.0, 1.0, 0.0, 0.0])
    b = samples([0.0, 0.0, 0.0], first=1)
    b.loc[0, "score"] = math.nan  # e0001 was not scored
    found = statistics.difference(a, b)
    assert (found.value, found.n) == (0.0, 2)


def test_unscored_is_not_zero():
    frame = samples([1.0, math.nan, 0.0, math.nan])
    assert statistics.mean(frame).value == 0.5
    assert statistics.mean(frame).n == 2


def test_gap_closed_is_the_share_of_the_way_from_base_to_ceiling():
    base, method = samples([0, 0, 0, 1.0]), samples([1.0, 0, 0, 1.0])
    ceiling = samples([1.0, 1.0, 0, 1.0])
    found = statistics.gap_closed(method, base, ceiling)
    assert found.value == pytest.approx(0.5)


def test_the_interval_of_the_gap_closed_covers_it():
    draw = np.random.default_rng(5)
    truth, hits = 0.5, 0
    for _ in range(300):
        u = draw.random(150)
        m, b, c = u < 0.5, u < 0.2, u < 0.8
        found = statistics.gap_closed(samples(m), samples(b), samples(c))
        hits += found.low <= truth <= found.high
    assert 275 <= hits <= 294


def test_without_a_gap_there_is_no_share_of_it():
    base = samples([1.0, 0.0, 1.0])
    assert math.isnan(statistics.gap_closed(base, base, base).value)
    assert statistics.gap_closed(base, base, base).points() == "–"


def test_a_gap_that_some_resamples_do_not_have_bounds_nothing():
    base, ceiling = samples([1.0, 0.0] * 10), samples([0.0, 1.0] * 9 + [1.0, 1.0])
    found = statistics.gap_closed(ceiling, base, ceiling)
    assert found.value == pytest.approx(1.0)
    assert math.isnan(found.low) and math.isnan(found.high)


def test_the_detectable_effect_is_the_closed_form():
    """d is +1 once and 0 ninety-nine times: variance 0.01 (ddof 1), so 2.8016 * 0.1 / 10."""
    a = samples([1.0] + [0.0] * 99)
    b = samples([0.0] * 100)
    assert statistics.minimum_detectable_effect(a, b) == pytest.approx(0.028016, abs=1e-6)


def test_the_detectable_effect_is_found_about_as_often_as_it_says():
    """A true difference of that size, drawn anew 1,000 times, is significant in 80 % of them."""
    n, draw = 400, np.random.default_rng(0)
    sd = 0.5
    d = draw.standard_normal(n)
    d = (d - d.mean()) / d.std(ddof=1) * sd
    effect = statistics.minimum_detectable_effect(samples(d), samples(np.zeros(n)))
    drawn = effect + sd * draw.standard_normal((1000, n))
    z = drawn.mean(1) / (drawn.std(1, ddof=1) / math.sqrt(n))
    assert 0.76 <= (np.abs(z) > 1.96).mean() <= 0.84


def test_one_example_has_a_value_and_no_interval():
    found = statistics.mean(samples([1.0]))
    assert found.value == 1.0 and math.isnan(found.low) and found.points() == "100.0"
    assert math.isnan(statistics.minimum_detectable_effect(samples([1.0]), samples([0.0])))


def test_no_example_has_no_value():
    for found in (
        statistics.mean(samples([])),
        statistics.mean(samples([math.nan])),
        statistics.difference(samples([1.0]), samples([1.0], first=1)),
        statistics.gap_closed(samples([]), samples([1.0]), samples([1.0])),
    ):
        assert math.isnan(found.value) and found.n == 0 and found.points() == "–"


def test_examples_that_are_all_alike_give_no_interval_of_width_zero():
    found = statistics.mean(samples([1.0] * 20))
    assert found.value == 1.0 and math.isnan(found.low)
    assert found.points() == "100.0"


def test_points_are_percent_with_their_interval():
    assert statistics.Interval(0.62, 0.581, 0.659, 500).points() == "62.0 [58.1, 65.9]"
