"""Paired differences of methods, their corrected tests, and instructions by type."""

import math

import numpy as np
import pandas as pd
import pytest
from report_frames import Suite

from opcd_bench.report.analysis import pairwise, significance

GOOD = [1.0, 1.0, 1.0, 0.0]
POOR = [0.0, 0.0, 1.0, 1.0]


def matrix(suite):
    return pairwise.matrix(suite.results())


def test_a_difference_is_the_first_minus_the_second():
    suite = Suite().cell("good", test=GOOD).cell("poor", test=POOR)
    (found,) = matrix(suite).itertuples()
    assert (found.task, found.measured, found.method, found.other) == (
        "toy",
        "test",
        "good",
        "poor",
    )
    assert found.difference.value == 0.25
    assert (found.n, found.seeds) == (4, (0,))


def test_the_test_flips_the_signs_of_the_differences():
    """1, 1, 0, -1: of eight ways to sign three ones, six sum to 1 or more in size: all but none."""
    suite = Suite().cell("good", test=[1, 1, 0, 0]).cell("poor", test=[0, 0, 0, 0])
    (found,) = matrix(suite).itertuples()
    assert found.p == pytest.approx(0.5)  # two ones: both up or both down, of four ways
    suite = Suite().cell("good", test=[1, 1, 1, 1, 1, 0]).cell("poor", test=[0, 0, 0, 0, 0, 0])
    (found,) = matrix(suite).itertuples()
    assert found.p == pytest.approx(2 / 32)


def test_methods_that_are_alike_have_p_one():
    suite = Suite().cell("good", test=GOOD).cell("same", test=GOOD)
    (found,) = matrix(suite).itertuples()
    assert (found.difference.value, found.p, found.p_holm) == (0.0, 1.0, 1.0)


def test_one_example_that_differs_is_no_evidence():
    """One sign, flipped or not: as large either way."""
    suite = Suite().cell("good", test=[1, 1, 0, 0]).cell("poor", test=[1, 0, 0, 0])
    (found,) = matrix(suite).itertuples()
    assert (found.difference.value, found.p) == (0.25, 1.0)


def test_holm_corrects_over_all_pairs_and_measures():
    """p of 2/32 twice, and of 1 four times: corrected 6 x 2/32, the same, and 1."""
    ones, none = [1.0] * 5, [0.0] * 5
    suite = Suite()
    suite.cell("a", test=ones, kept={"keep": ones})
    suite.cell("b", test=none, kept={"keep": ones})
    suite.cell("c", test=none, kept={"keep": ones})
    found = matrix(suite).set_index(["measured", "method", "other"]).sort_index()
    assert found.loc[("test", "a", "b"), "p"] == pytest.approx(2 / 32)
    assert found.loc[("test", "a", "b"), "p_holm"] == pytest.approx(12 / 32)
    assert found.loc[("test", "a", "c"), "p_holm"] == pytest.approx(12 / 32)
    assert found.loc[("test", "b", "c"), "p_holm"] == 1.0
    assert (found.loc["keep", "p_holm"] == 1.0).all()


def test_methods_are_compared_over_the_seeds_that_both_ran():
    suite = Suite()
    suite.cell("good", seed=0, test=GOOD).cell("good", seed=1, test=POOR)
    suite.cell("poor", seed=0, test=GOOD)
    (found,) = matrix(suite).itertuples()
    assert (found.difference.value, found.seeds) == (0.0, (0,))


def test_test_comes_first_and_then_what_was_kept():
    kept = {"b": GOOD, "a": GOOD}
    suite = Suite().cell("good", test=GOOD, kept=kept).cell("poor", test=POOR, kept=kept)
    assert matrix(suite)["measured"].tolist() == ["test", "a", "b"]


def test_without_a_common_example_nothing_is_tested():
    suite = Suite().cell("good", test=[1.0, math.nan]).cell("poor", test=[math.nan, 0.0])
    (found,) = matrix(suite).itertuples()
    assert found.n == 0 and math.isnan(found.p) and math.isnan(found.p_holm)


def test_one_method_has_no_other():
    assert matrix(Suite().cell("good", test=GOOD)).empty
    assert matrix(Suite()).empty and list(matrix(Suite())) == pairwise.MATRIX


# --- simulations ----------------------------------------------------------------------------------

ITEMS = 40


def experiments(count, rates, draw):
    """As many tasks, each with methods of these true accuracies on items of their own.

    An item is as hard for all of the methods in half of the cases.
    """
    suite = Suite()
    for number in range(count):
        suite.task = f"toy{number:03d}"
        hard = draw.random(ITEMS)
        for name, rate in rates.items():
            own = np.where(draw.random(ITEMS) < 0.5, hard, draw.random(ITEMS))
            suite.cell(name, test=(own < rate).astype(float))
    return matrix(suite)


def test_of_tables_without_a_difference_one_in_twenty_shows_one_at_most():
    """200 tables of three pairs; twice the noise of a true 5 % is 3.1 points."""
    found = experiments(200, {"a": 0.5, "b": 0.5, "c": 0.5}, np.random.default_rng(0))
    each = found.groupby("task")["p"]
    wrong = each.agg(lambda p: min(significance.holm(p.tolist()))) <= 0.05
    assert wrong.mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 200)
    assert wrong.any()  # a test that never rejects would pass the line above
    assert found["p_holm"].min() > 0.05  # 600 pairs are one family here
    raw = each.min() <= 0.05
    assert raw.mean() > wrong.mean()  # and uncorrected ones do so more often


def test_a_true_difference_is_found_and_its_interval_covers_it():
    found = experiments(100, {"a": 0.75, "b": 0.35}, np.random.default_rng(1))
    assert (found["p"] <= 0.05).mean() >= 0.9
    hits = [d.low <= 0.4 <= d.high for d in found["difference"]]
    assert 0.9 <= np.mean(hits) <= 0.99


# --- instructions ---------------------------------------------------------------------------------


def test_an_instruction_type_is_followed_before_and_after():
    suite = Suite().cell("good", test=GOOD)
    suite.instructions(None, {"comma": {"p0": True, "p1": True}, "title": {"p0": False}})
    suite.instructions("good", {"comma": {"p0": True, "p1": False}, "title": {"p0": True}})
    found = pairwise.instructions(suite.results()).set_index("instruction")
    comma = found.loc["comma"]
    assert (comma["before"], comma["after"], comma["n"]) == (1.0, 0.5, 2)
    assert comma["change"].value == -0.5
    assert found.loc["title", "change"].value == 1.0
    assert math.isnan(found.loc["title", "change"].low)


def test_seeds_are_averaged_and_only_those_of_the_headline_rate():
    suite = Suite().cell("good", seed=0, test=GOOD).cell("good", seed=1, test=GOOD)
    suite.cell("good", rate=1e-2, test=GOOD)
    suite.instructions(None, {"comma": {"p0": True, "p1": True}})
    suite.instructions("good", {"comma": {"p0": True, "p1": True}}, seed=0)
    suite.instructions("good", {"comma": {"p0": True, "p1": False}}, seed=1)
    suite.instructions("good", {"comma": {"p0": False, "p1": False}}, rate=1e-2)
    (found,) = pairwise.instructions(suite.results()).itertuples()
    assert (found.after, found.n, found.seeds) == (0.75, 2, (0, 1))


def test_a_prompt_that_gives_a_type_twice_counts_twice_and_is_one_cluster():
    """Prompt p0 gives it three times: followed 3, then 0; p1 once: followed 1, then 1."""
    suite = Suite().cell("good", test=GOOD)
    for method, followed in ((None, True), ("good", False)):
        for _ in range(3):
            suite.instructions(method, {"comma": {"p0": followed}})
        suite.instructions(method, {"comma": {"p1": True}})
    (found,) = pairwise.instructions(suite.results()).itertuples()
    assert (found.before, found.after, found.n) == (1.0, 0.25, 2)
    assert found.change.value == -0.75
    assert (found.change.low, found.change.high) == (-1.0, 0.0)


def test_the_interval_of_a_type_is_what_a_loop_over_prompts_gives():
    draw = np.random.default_rng(2)
    count = draw.integers(1, 4, 30)
    before = [draw.random(n) < 0.8 for n in count]
    after = [draw.random(n) < 0.6 for n in count]
    suite = Suite().cell("good", test=GOOD)
    for method, outcomes in ((None, before), ("good", after)):
        for k in range(3):
            prompts = {f"p{i:02d}": bool(o[k]) for i, o in enumerate(outcomes) if k < len(o)}
            suite.instructions(method, {"comma": prompts})
    (found,) = pairwise.instructions(suite.results()).itertuples()
    lost = np.array([a.sum() - b.sum() for a, b in zip(after, before, strict=True)])
    drawn = draw.integers(0, 30, (20_000, 30))
    share = lost[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    assert found.change.value == pytest.approx(lost.sum() / count.sum())
    assert found.change.low == pytest.approx(np.quantile(share, 0.025), abs=0.02)
    assert found.change.high == pytest.approx(np.quantile(share, 0.975), abs=0.02)


def test_a_suite_without_instructions_has_none():
    found = pairwise.instructions(Suite().cell("good", test=GOOD).results())
    assert found.empty and list(found) == pairwise.INSTRUCTIONS
    assert isinstance(found, pd.DataFrame)
