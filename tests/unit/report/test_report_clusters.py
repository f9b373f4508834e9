"""Examples that ask for the same in other words are one piece of evidence, not many."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from opcd_bench.report.analysis import significance, statistics
from opcd_bench.report.analysis.clusters import clustered, in_order, of_examples
from opcd_bench.report.analysis.learning import Learning
from opcd_bench.report.analysis.load import load
from opcd_bench.report.analysis.pairing import by_seed, in_clusters
from opcd_bench.report.tables import plain_text
from opcd_bench.store.suite_dir import CLUSTERS, SuiteDir
from tests import report_suite


def frame(scores_SE, clusters):
    rows = [
        {"example_id": f"e{e}", "cluster": clusters[e], "seed": s, "score": score}
        for s, row in enumerate(np.atleast_2d(scores_SE))
        for e, score in enumerate(row)
    ]
    return pd.DataFrame(rows)


def alike(rng, sizes, share, seeds=3):
    """Facts that are known or not, whatever the wording; one in twenty responses by chance."""
    knows = np.repeat(rng.random(len(sizes)) < share, sizes)
    chance = rng.random((seeds, sum(sizes)))
    guess = rng.random((seeds, sum(sizes))) < share
    clusters = np.repeat([f"fact {i}" for i in range(len(sizes))], sizes)
    return frame(np.where(chance < 0.05, guess, knows).astype(float), clusters)


@pytest.mark.parametrize("sizes", [[8] * 12, [4, 12] * 6], ids=["of one size", "of two"])
def test_intervals_hold_the_truth_where_examples_would_not(sizes):
    rng = np.random.default_rng(0)
    drawn = [alike(rng, sizes, 0.4) for _ in range(150)]
    found = [statistics.mean(one) for one in drawn]
    alone = [statistics.mean(one.drop(columns="cluster")) for one in drawn]
    assert np.mean([one.low <= 0.4 <= one.high for one in found]) >= 0.92
    assert np.mean([one.low <= 0.4 <= one.high for one in alone]) <= 0.7
    assert [one.value for one in found] == pytest.approx([one.value for one in alone])
    assert {(one.n, one.examples) for one in found} == {(12, 96)}


def test_the_standard_error_of_one_training_is_the_clustered_one():
    """Miller 2024, arXiv 2411.00640, equation 4, with C / (C - 1) for few clusters."""
    scores = np.array([1.0, 1.0, 0.0, 0.5, 0.0, 0.0, 1.0, 0.0, 1.0])
    clusters = np.array([*"aaabbbbcc"])
    base = frame(np.zeros(9), clusters)
    spread = significance.spread_of(frame(scores, clusters), base)
    away = scores - scores.mean()
    between = sum(away[clusters == c].sum() ** 2 for c in "abc")
    assert spread.error == pytest.approx(math.sqrt(between * 3 / 2) / 9)
    assert spread.freedom == pytest.approx(2)


def test_a_mean_is_that_of_examples_also_where_some_are_unscored():
    scores = np.array([[1.0, 0.0, 0.0, 1.0], [1.0, math.nan, 0.0, 0.0]])
    one = frame(scores, [*"aabb"])
    (found,) = by_seed(one)
    assert found.shape == (2, 2)
    assert found.mean() == pytest.approx(statistics.mean(one.drop(columns="cluster")).value)


def test_the_interval_of_a_share_stays_within_0_and_1():
    scores = np.zeros(40)
    scores[:3] = 1.0  # the whole of a small cluster
    found = statistics.mean(frame(scores, np.repeat([*"abcd"], [3, 10, 12, 15])))
    assert found.value == pytest.approx(3 / 40)
    assert 0.0 <= found.low < found.value < found.high <= 1.0


def test_clusters_of_one_example_each_change_nothing():
    rng = np.random.default_rng(1)
    scores = (rng.random((3, 30)) < 0.5).astype(float)
    one = frame(scores, [f"own {i}" for i in range(30)])
    assert statistics.mean(one) == statistics.mean(one.drop(columns="cluster"))


def test_three_clusters_are_three_coins_however_many_examples_they_have():
    clusters = np.repeat([*"abc"], [8, 7, 9])
    better, base = frame(np.ones(24), clusters), frame(np.zeros(24), clusters)
    assert significance.permutation_p(better, base) == 2.0**-2
    without = [one.drop(columns="cluster") for one in (better, base)]
    assert significance.permutation_p(*without) == 2.0**-23


def test_scores_by_place_have_the_means_that_they_had():
    scores = np.array([[1.0, 0.0, math.nan, 1.0], [0.0, 0.0, 1.0, 1.0]])
    found = in_clusters(scores, ["a", "a", "b", "b"])
    assert found.shape == (2, 2)
    assert found.mean(axis=-1) == pytest.approx(np.nanmean(scores, axis=-1))
    assert in_clusters(scores, None) is scores
    assert in_clusters(scores, [*"abcd"]) is scores


def test_few_clusters_find_no_smaller_effect_than_their_exact_test():
    """Of 12, 6 must differ for p = 2^-5: with a power of 80 % where 58 % do; of 5 none is found."""
    rng = np.random.default_rng(2)

    def effect(clusters):
        names = np.repeat([f"fact {i}" for i in range(clusters)], 8)
        better = (rng.random((3, 8 * clusters)) < 0.4).astype(float)
        arms = frame(better, names), frame(np.zeros_like(better), names)
        return significance.minimum_detectable_effect(*arms)

    assert effect(12) == pytest.approx(0.5779, abs=1e-4)
    assert effect(6) == pytest.approx(0.8 ** (1 / 6))
    assert math.isinf(effect(5))
    assert effect(40) < 0.3


def test_a_frame_stored_before_clusters_pairs_with_one_that_has_them_either_way():
    scores = np.array([1.0, 0.0, 1.0, 1.0])
    new = frame(scores, [*"aabb"])
    old = frame(np.zeros(4), [*"aabb"]).drop(columns="cluster")
    for pair in ((new, old), (old, new)):
        assert [one.shape for one in by_seed(*pair)] == [(1, 2), (1, 2)]
    both = pd.concat([old.assign(seed=1), new], ignore_index=True)
    assert by_seed(both)[0].shape == (2, 2)


def test_the_area_under_a_curve_does_not_vary_by_the_size_of_clusters():
    """Every item gains 1: clusters of 7, 2 and 1 items all have an area of 1/2."""
    gained = np.stack([np.zeros((2, 10)), np.ones((2, 10))], axis=1)
    names = tuple(np.repeat([*"abc"], [7, 2, 1]))
    tokens = np.array([[0.0, 10.0]] * 2)
    learnt = Learning((0, 1), np.array([0.0, 10.0]), gained, tokens, names)
    (areas,) = by_seed(learnt.samples())
    assert areas == pytest.approx(np.full((2, 3), 0.5))
    assert (learnt.area.value, learnt.area.n, learnt.area.examples) == (0.5, 3, 10)
    steps, _, arrived = learnt.reached(0.5)
    assert (steps.value, steps.low, steps.high) == pytest.approx((5.0, 5.0, 5.0))
    assert arrived == 2


def suite_with(clusters):
    return {CLUSTERS: {"toy": {"test": clusters}}}


def test_what_has_no_cluster_is_one_of_its_own():
    rows = pd.DataFrame(
        {"measured": ["toy", "toy", "other"], "example_id": ["x", "y", "x"], "score": 1.0}
    )
    found = clustered(rows, suite_with(["x fact"]))
    assert list(found["cluster"]) == ["fact", "y", "x"]
    assert clustered(rows, {}) is rows
    assert of_examples(suite_with(["x fact"])) == {"toy": {"x": "fact"}}


def test_places_have_clusters_as_far_as_they_are_known():
    suite = suite_with(["x a", "y b"])
    assert in_order(suite, "toy", "test", 1) == ["a"]
    assert in_order(suite, "toy", "test", 3) is None
    assert in_order(suite, "toy", "dev", 1) is None
    assert in_order({}, "toy", "test", 1) is None


def test_a_report_counts_clusters_and_says_so(tmp_path):
    root = report_suite.whole(tmp_path / "mine").path
    results = load(root)
    assert "in 5 clusters" not in plain_text.headline_text(root)
    ids = sorted(set(results.samples.loc[results.samples["split"] == "test", "example_id"]))
    dev = [f"d{i} fact {i % 2}" for i in range(report_suite.DEV)]
    pairs = [f"{one} fact {place % 5}" for place, one in enumerate(ids)]
    SuiteDir(root).merge({CLUSTERS: {"toy": {"test": pairs, "dev": dev}}})
    said = plain_text.headline_text(root)
    assert f"{report_suite.TEST} test examples in 5 clusters" in said
    assert statistics.CLUSTERED in " ".join(said.split())
    assert set(load(root).samples["cluster"]) >= {f"fact {i}" for i in range(5)}
    assert json.loads((root / "suite.json").read_text())[CLUSTERS]["toy"]["dev"] == dev
