"""Intervals are paired, clustered by example, seeded, and cover what they say."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from opcd_bench.report.analysis import significance, statistics


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


def test_seeds_that_score_alike_are_no_further_evidence():
    """Three copies of every score have the interval of one: t over 40 examples."""
    scores = bernoulli(0.5, 40, 0)
    three = pd.concat([samples(scores, seed=s) for s in range(3)])
    found, half = statistics.mean(three), stats.t.ppf(0.975, 39) * stats.sem(scores)
    assert (found.low, found.high) == pytest.approx((scores.mean() - half, scores.mean() + half))
    assert found.n == 40


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
    base, method = samples([0, 0, 0, 1.0] * 8), samples([1.0, 0, 0, 1.0] * 8)
    ceiling = samples([1.0, 1.0, 0, 1.0] * 8)
    found = statistics.gap_closed(method, base, ceiling)
    assert found.value == pytest.approx(0.5)


def test_one_methods_gap_less_anothers_is_paired_and_covered():
    """On one draw of examples the two arms err together; taken apart the interval is far wider."""
    first, second = bernoulli(0.7, 400, 1), bernoulli(0.7, 400, 1)
    second[:40] = 0.0
    base, ceiling = samples(np.zeros(400)), samples(np.ones(400))
    found = statistics.gap_difference(samples(first), samples(second), base, ceiling)
    assert found.value == pytest.approx((first - second).mean())
    assert found.low < found.value < found.high
    single = [statistics.gap_closed(samples(one), base, ceiling) for one in (first, second)]
    apart = statistics.apart(*single)
    assert apart.high - apart.low > 2 * (found.high - found.low)


def test_two_that_answer_alike_differ_by_no_more_than_what_never_showed_may():
    scores = samples(bernoulli(0.7, 100, 1))
    base, ceiling = samples(np.zeros(100)), samples(np.ones(100))
    found = statistics.gap_difference(scores, scores, base, ceiling)
    assert found.value == 0 and found.high == -found.low == pytest.approx(0.036217, abs=1e-5)


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


def test_a_gap_that_is_not_shown_to_be_one_has_no_share():
    """A ceiling one example above the base, and a method six: not 600 % of anything."""
    base, ceiling = samples([1.0, 0.0] * 10), samples([0.0, 1.0] * 9 + [1.0, 1.0])
    method = samples([1.0] * 16 + [0.0] * 4)
    for found in (
        statistics.gap_closed(method, base, ceiling),
        statistics.gap_difference(method, base, base, ceiling),
    ):
        assert np.isnan([found.value, found.low, found.high]).all()


def test_the_detectable_effect_is_the_closed_form():
    """d is +1 on 20 and 0 on 80: variance 16/99, so 2.829 standard errors of .0402."""
    a = samples([1.0] * 20 + [0.0] * 80)
    b = samples([0.0] * 100)
    found = significance.minimum_detectable_effect(a, b)
    assert stats.nct.sf(stats.t.ppf(0.975, 99), 99, found / (4 / math.sqrt(9900))) == pytest.approx(
        0.8
    )


def test_no_less_is_detectable_than_the_exact_test_finds_where_few_examples_differ():
    """Six one way are needed for p = 2^-5; after correction for 120 tests, 14, where t decides."""
    b = samples([0.0] * 200)
    for differ in (1, 5, 13):
        a = samples([1.0] * differ + [0.0] * (200 - differ))
        found = significance.minimum_detectable_effect(a, b)
        assert found >= stats.beta.ppf(0.8, 6, 195) > 6 / 200
        corrected = significance.minimum_detectable_effect(a, b, level=0.05 / 120)
        assert corrected >= stats.beta.ppf(0.8, 13, 188)
        beyond = significance.minimum_detectable_effect(a, b, level=1e-9)
        assert stats.beta.ppf(0.8, 14, 187) <= beyond < 1


def test_of_arms_that_never_differ_it_is_not_known_what_is_detectable():
    for scores in ([1.0] * 200, [0.0] * 12):
        a = samples(scores)
        assert math.isnan(significance.minimum_detectable_effect(a, a))
    assert math.isinf(
        significance.minimum_detectable_effect(samples([1.0] * 5), samples([1.0] * 5))
    )


def test_the_detectable_effect_is_found_about_as_often_as_it_says():
    """A true difference of that size, drawn anew 1,000 times, is significant in 80 % of them."""
    n, draw = 400, np.random.default_rng(0)
    sd = 0.5
    d = draw.standard_normal(n)
    d = (d - d.mean()) / d.std(ddof=1) * sd
    effect = significance.minimum_detectable_effect(samples(d), samples(np.zeros(n)))
    drawn = effect + sd * draw.standard_normal((1000, n))
    z = drawn.mean(1) / (drawn.std(1, ddof=1) / math.sqrt(n))
    assert 0.76 <= (np.abs(z) > 1.96).mean() <= 0.84


def test_one_example_has_a_value_and_no_interval():
    found = statistics.mean(samples([1.0]))
    assert found.value == 1.0 and math.isnan(found.low) and found.points() == "100.0"
    assert math.isnan(significance.minimum_detectable_effect(samples([1.0]), samples([0.0])))


def test_no_example_has_no_value():
    for found in (
        statistics.mean(samples([])),
        statistics.mean(samples([math.nan])),
        statistics.difference(samples([1.0]), samples([1.0], first=1)),
        statistics.gap_closed(samples([]), samples([1.0]), samples([1.0])),
    ):
        assert math.isnan(found.value) and found.n == 0 and found.points() == "–"


def test_all_right_and_all_wrong_have_wilson_s_interval():
    """Wilson 1927: 20 of 20 are at least 20 / (20 + 1.96²) = 83.9 %."""
    found = statistics.mean(samples([1.0] * 20))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(20 / (20 + 1.959964**2))
    assert statistics.mean(samples([0.0] * 20)).high == pytest.approx(1 - found.low)
    assert found.points() == "100.0 [83.9, 100.0]"
    # Exactly: round-off made 3e-17 of six wrong ones.
    assert [statistics.mean(samples([0.0] * n)).low for n in (6, 7, 20)] == [0.0] * 3
    assert [statistics.mean(samples([1.0] * n)).high for n in (6, 7, 20)] == [1.0] * 3


def test_one_wrong_of_many_is_no_surer_than_none():
    """499 of 500 by resampling would be above 99.4 %, which is more than 500 of 500 can say."""
    all_right = statistics.mean(samples([1.0] * 500))
    but_one = statistics.mean(samples([1.0] * 499 + [0.0]))
    assert but_one.low < all_right.low < 0.993
    assert statistics.mean(samples([0.5] * 20)).points() == "50.0"


def test_a_measure_in_nats_has_no_bounds_of_shares():
    found = statistics.mean(samples([0.0] * 20), shares=False)
    assert found.value == 0 and math.isnan(found.low)
    assert math.isnan(
        statistics.difference(samples([2.0] * 9), samples([2.0] * 9), shares=False).low
    )
    assert statistics.mean(samples([7.0, 9.0]), shares=False).high > 1


def test_methods_that_never_differ_have_the_exact_bound_of_what_may():
    """Clopper and Pearson: none of 100 differ, so at most 1 - 0.025 ** (1 / 100) = 3.6 % do."""
    found = statistics.difference(samples([1.0] * 100), samples([1.0] * 100))
    assert (found.low, found.high) == pytest.approx((-0.036217, 0.036217), abs=1e-5)
    whole = statistics.difference(samples([1.0] * 100), samples([0.0] * 100))
    assert (whole.low, whole.high) == pytest.approx((1 - 0.036217, 1.0), abs=1e-5)


def test_one_that_differs_is_no_surer_than_none_and_agrees_with_the_exact_p():
    """A resample of one difference in 200 never falls below 0; its sign says nothing at all."""
    nothing = samples([0.0] * 200)
    lows = []
    for differ in range(9):
        one = samples([1.0] * differ + [0.0] * (200 - differ))
        for a, b, sign in ((one, nothing, 1), (nothing, one, -1)):
            found = statistics.difference(a, b)
            low, _ = sorted((sign * found.low, sign * found.high))
            assert (low > 0) == (significance.p_of_difference(a, b) <= 0.05), differ
            lows.append(low)
    assert lows == sorted(lows), "the more differ, the surer"
    each = samples([1.0] * 2 + [0.0] * 198), samples([0.0] * 198 + [1.0] * 2)
    both = statistics.difference(*each)
    up = stats.binomtest(2, 200).proportion_ci(0.95, method="exact")
    assert (both.low, both.high) == pytest.approx((up.low - up.high, up.high - up.low))


def test_a_share_of_the_gap_is_no_surer_than_the_difference_that_it_is_of():
    base, ceiling = samples([0.0] * 100 + [1.0] * 100), samples([1.0] * 200)
    scores = [0.0] * 97 + [1.0] * 103
    method = samples(scores)
    allowed = statistics.difference(method, base)
    found = statistics.gap_closed(method, base, ceiling)
    assert found.value == pytest.approx(0.03) and allowed.low < 0
    assert found.low == pytest.approx(2 * allowed.low)
    assert found.high >= 2 * allowed.high - 1e-12
    less = statistics.gap_difference(method, base, base, ceiling)
    assert less.low == pytest.approx(found.low)


def test_a_method_that_is_the_ceiling_everywhere_closes_the_gap_within_that_bound():
    base, ceiling = samples([0.0] * 50 + [1.0] * 50), samples([1.0] * 100)
    found = statistics.gap_closed(ceiling, base, ceiling)
    assert found.value == 1.0
    assert (found.low, found.high) == pytest.approx((1 - 2 * 0.036217, 1 + 2 * 0.036217), abs=1e-4)
    assert statistics.gap_closed(base, base, ceiling).low == pytest.approx(-2 * 0.036217, abs=1e-4)


def test_points_are_percent_with_their_interval():
    assert statistics.Interval(0.62, 0.581, 0.659, 500).points() == "62.0 [58.1, 65.9]"


# --- pairing ----------------------------------------------------------------------------------


def seeds(*scores) -> pd.DataFrame:
    """One run of scores a seed, 0, 1, …; None for a seed that did not run."""
    return pd.concat(
        [samples(row, seed=seed) for seed, row in enumerate(scores) if row is not None]
    )


def test_only_seeds_that_both_ran_are_compared():
    """On seed 1, which both ran, they differ by one of four; the others would say more."""
    a = seeds([1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0], None)
    b = seeds(None, [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0])
    found = statistics.difference(a, b)
    assert (found.value, found.n) == (0.25, 4)


def test_runs_without_a_common_seed_have_no_difference():
    a, b = seeds([1.0, 0.0]), seeds(None, [1.0, 0.0])
    assert statistics.difference(a, b).n == 0
    assert math.isnan(significance.permutation_p(a, b))


def test_a_frame_without_seeds_pairs_with_every_seed():
    base = samples([0.0, 0.0]).drop(columns="seed")
    found = statistics.difference(seeds([1.0, 0.0], [1.0, 1.0]), base)
    assert found.value == pytest.approx(0.75)


def test_an_example_counts_on_the_seeds_on_which_both_scored_it():
    """b failed on e0000 of seed 1, so a's miss there has nothing to stand against."""
    a = seeds([1.0, 0.0], [0.0, 0.0])
    b = seeds([1.0, 0.0], [math.nan, 0.0])
    x, y = statistics.paired(a, b)
    np.testing.assert_array_equal(x, [1.0, 0.0])
    np.testing.assert_array_equal(y, [1.0, 0.0])


def test_pairs_are_the_same_whatever_the_order_of_the_rows():
    a, b = seeds(bernoulli(0.5, 30, 1), bernoulli(0.5, 30, 2)), seeds(bernoulli(0.3, 30, 3))
    mixed = statistics.paired(a.sample(frac=1, random_state=0), b.sample(frac=1, random_state=1))
    for one, other in zip(statistics.paired(a, b), mixed, strict=True):
        np.testing.assert_array_equal(one, other)


def test_samples_of_one_example_are_averaged_before_its_seeds():
    two = pd.DataFrame({"example_id": ["e"] * 3, "seed": [0, 0, 1], "score": [1.0, 0.0, 1.0]})
    one = pd.DataFrame({"example_id": ["e"] * 2, "seed": [0, 1], "score": [0.0, 0.0]})
    x, _ = statistics.paired(two, one)
    np.testing.assert_allclose(x, [0.75])


# --- intervals of any statistic ---------------------------------------------------------------


def test_the_interval_of_a_ratio_resamples_its_arrays_together():
    """2x / x is 2 whichever examples are drawn: nothing to give an interval of."""
    x = bernoulli(0.5, 40, 0) + 1
    found = statistics.interval_of(lambda a, b, axis: a.mean(axis) / b.mean(axis), 2 * x, x)
    assert found.value == pytest.approx(2.0) and found.n == 40
    assert found.high - found.low == pytest.approx(0.0, abs=1e-12) or math.isnan(found.low)
    y = bernoulli(0.5, 40, 1) + 1
    apart = statistics.interval_of(lambda a, b, axis: a.mean(axis) / b.mean(axis), 2 * y, x)
    assert apart.high - apart.low > 0.1


def test_a_statistic_that_some_resamples_do_not_have_has_no_interval():
    rare = np.array([1.0, *[0.0] * 9])  # a third of the resamples lack it
    found = statistics.interval_of(
        lambda x, axis: np.where(x.mean(axis) > 0, 1.0 + x.mean(axis), math.nan), rare
    )
    assert found.value == pytest.approx(1.1) and math.isnan(found.low)


def test_equal_data_of_two_statistics_are_not_mixed_up():
    x = bernoulli(0.3, 30, 7)
    assert statistics.interval_of(np.mean, x).value == pytest.approx(x.mean())
    assert statistics.interval_of(np.max, x).value == 1.0
    assert statistics.interval_of(np.mean, x.reshape(-1)) == statistics.interval_of(np.mean, x)


# --- tests ------------------------------------------------------------------------------------


def test_few_differences_are_flipped_in_all_ways():
    """Differences 1, 1, 1, 0.5, -0.5: 3 of 32 sign patterns sum to 3 or more, 3 to -3 or less."""
    a = samples([1.0, 1.0, 1.0, 0.5, 0.0, 0.0])
    b = samples([0.0, 0.0, 0.0, 0.0, 0.5, 0.0])
    assert significance.permutation_p(a, b) == pytest.approx(6 / 32)
    assert significance.permutation_p(b, a) == pytest.approx(6 / 32)


def test_many_differences_agree_with_scipys_own_flips():
    draw = np.random.default_rng(2)
    a, b = draw.integers(0, 4, 90) / 3, draw.integers(0, 4, 90) / 3
    reference = stats.permutation_test(
        (a - b,), np.mean, permutation_type="samples", n_resamples=20_000, rng=1, vectorized=True
    ).pvalue
    assert 0.02 < reference < 0.9, "a p that says something"
    noise = math.sqrt(reference * (1 - reference) * (1 / 9999 + 1 / 20_000))
    found = significance.permutation_p(samples(a), samples(b))
    assert found == pytest.approx(reference, abs=6 * noise)


def test_many_equal_differences_agree_with_the_binomial():
    """60 examples of which a wins 38 and b 22: the sign test's exact p."""
    a = samples([1.0] * 38 + [0.0] * 22 + [1.0] * 40)
    b = samples([0.0] * 38 + [1.0] * 22 + [1.0] * 40)
    exact = stats.binomtest(38, 60).pvalue
    assert significance.permutation_p(a, b) == pytest.approx(exact, abs=0.01)


def test_methods_that_never_differ_have_a_p_of_1():
    same = samples(bernoulli(0.5, 30, 0))
    assert significance.permutation_p(same, same) == 1.0


def test_a_single_difference_proves_nothing():
    """Both of its signs are equally far from 0."""
    a, b = samples([1.0, 1.0, 0.0]), samples([0.0, 1.0, 0.0])
    assert significance.permutation_p(a, b) == 1.0


def test_the_test_finds_what_is_not_there_as_often_as_it_says():
    """500 pairs of equally good methods on 50 examples; binomial noise of the rate is 1 point."""
    draw = np.random.default_rng(0)
    ids = samples(np.zeros(50))
    found = 0
    for _ in range(500):
        hard = draw.random(50)
        a, b = (np.where(draw.random(50) < 0.5, hard, draw.random(50)) < 0.5 for _ in range(2))
        p = significance.permutation_p(ids.assign(score=a * 1.0), ids.assign(score=b * 1.0))
        found += p <= 0.05
    assert 5 <= found <= 35


def test_holm_is_the_step_down_rule():
    """Holm 1979 by hand: 4 x 0.005, then 3 x 0.01, then 2 x 0.03 and never less, then 0.04."""
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]
    assert significance.holm([]) == []


def test_holm_keeps_the_family_wise_rate():
    """2,000 families of ten true nulls: the rate is at most 5 % but for binomial noise (0.5)."""
    draw = np.random.default_rng(1)
    wrong = sum(min(significance.holm(list(draw.random(10)))) <= 0.05 for _ in range(2000))
    assert 0.035 <= wrong / 2000 <= 0.065


def test_a_small_loss_is_not_printed_as_minus_zero():
    assert statistics.Interval(-0.0001, -0.0002, 0.001, 9).points() == "0.0 [0.0, 0.1]"
