"""What is separated, what is alike and what is neither; groups, variances and their sentence."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from report_frames import Suite, describe

from opcd_bench.report.analysis import discrimination, equivalence, groups, significance
from opcd_bench.report.analysis.groups import lettered
from opcd_bench.report.analysis.measured import measured
from opcd_bench.report.analysis.moderated import moderated
from opcd_bench.report.tables import layout, plain_text, separation

ITEMS = 200


def right(share, shift=0):
    made = np.zeros(ITEMS)
    made[: round(share * ITEMS)] = 1.0
    return np.roll(made, shift)


def suite(shares, *, seeds=3, kept=None, controls=(), still=(), **settings):
    """Methods with these accuracies on test: a list a seed, or one for all of ``seeds``."""
    made = Suite("toy", **settings).anchor("base", "toy", right(0)).anchor("keep", "keep", right(1))
    made.anchor("ceiling", "toy", right(1))
    for name, found in shares.items():
        each = found if isinstance(found, list) else [found] * seeds
        for seed, share in enumerate(each):
            described = describe()
            if name in controls:
                described = {**described, "teacher": {**described["teacher"], "rows": "shuffled"}}
            own = {"keep": right(kept[name])} if kept else None
            made.cell(name, seed=seed, test=right(share), kept=own, description=described,
                      chosen=0 if name in still else 10)  # fmt: skip
    return made.results()


SPREAD = {"a": [0.80, 0.82, 0.81], "b": [0.79, 0.81, 0.83], "c": [0.4, 0.41, 0.39]}


def test_a_large_difference_is_separated_and_its_winner_named():
    found = discrimination.pairs(suite(SPREAD)).set_index(["method", "other"])
    assert found["separated"].tolist() == [False, True, True]
    assert found["winner"].tolist() == ["", "a", "b"]
    assert found.loc[("a", "c"), "difference"].value == pytest.approx(0.41)
    assert set(found["kind"]) == {"gain"} and set(found["margin"]) == {0.05}
    assert list(found.reset_index()[discrimination.PAIRS]) == discrimination.PAIRS


def test_what_stands_at_the_base_is_compared_on_gain_and_not_on_retention():
    """It lost nothing because it was not trained: no method forgets more than another for that."""
    kept = {"a": 0.5, "b": 0.5, "c": 1.0}
    results = suite({"a": 0.8, "b": 0.6, "c": 0.0}, kept=kept, still=("c",))
    found = discrimination.pairs(results)
    gain, lost = (found[found["kind"] == kind] for kind in ("gain", "retention"))
    assert list(zip(gain["method"], gain["other"], strict=True)) == [
        ("a", "b"), ("a", "c"), ("b", "c"),
    ]  # fmt: skip
    assert list(zip(lost["method"], lost["other"], strict=True)) == [("a", "b")]
    rows = discrimination.summary(results, found).set_index("kind")
    assert rows.loc["gain", "methods"] == 3 and rows.loc["retention", "methods"] == 2
    letters = groups.groups(results, found).set_index(["kind", "method"])
    assert letters.loc[("retention", "c"), "rank"] == 0 < letters.loc[("gain", "c"), "rank"]
    assert letters.loc[("retention", "c"), "letters"] == ""
    assert not letters.loc[("retention", "c"), "best"]
    trained = discrimination.pairs(suite({"a": 0.8, "c": 0.0}, kept=kept))
    assert "c" in set(trained.loc[trained["kind"] == "retention", "other"])


def test_counts_and_variances_by_hand():
    """Means 0.81, 0.81, 0.4 with a variance of 0.05603; seeds of 1e-4, 4e-4 and 1e-4."""
    results = suite(SPREAD)
    (row,) = discrimination.summary(results).itertuples()
    assert (row.methods, row.pairs, row.separated, row.seeds) == (3, 3, 2, 3)
    assert row.separated + row.equivalent + row.undecided == row.pairs
    assert row.within == pytest.approx(2e-4)
    between = np.var([0.81, 0.81, 0.4], ddof=1) - 2e-4 / 3
    assert row.between == pytest.approx(between)
    assert row.ratio == pytest.approx(between / 2e-4)
    said = discrimination.one_line(discrimination.summary(results))
    assert said.startswith("2 of 3 pairs of methods are separated (Holm over all pairs, 1 measure")
    assert discrimination.one_line(discrimination.summary(Suite("toy").results())) == ""


def test_with_one_seed_there_is_no_ratio_and_the_sentence_says_so():
    results = suite({"a": [0.8], "b": [0.7], "c": [0.4]})
    found = discrimination.summary(results)
    assert math.isnan(found["ratio"].iloc[0])
    assert discrimination.one_line(found).endswith(discrimination.ONE_TRAINING)
    assert discrimination.pairs(results)["p"].notna().all()
    assert discrimination.ONE_TRAINING not in discrimination.one_line(
        discrimination.summary(suite(SPREAD))
    )


def test_a_pair_that_shares_one_seed_is_undecided_where_others_share_more():
    """It would be the surest of all: of c nothing is known but seed 0."""
    results = suite({"a": [0.80, 0.81], "b": [0.4, 0.41], "c": [0.4], "d": [0.8]})
    found = discrimination.pairs(results).set_index(["method", "other"])
    assert found["separated"].sum() == 1 and found.loc[("a", "b"), "separated"]
    assert found.loc[("a", "b"), "p_holm"] == found.loc[("a", "b"), "p"], (
        "no other is in the family"
    )
    single = found[found["seeds"].map(len) == 1]
    assert len(single) == 5 and single["difference"].map(lambda one: one.value).abs().max() > 0.39
    for name in ("p", "p_holm", "p_equivalent", "p_equivalent_holm", "mde", "mde_corrected"):
        assert single[name].isna().all(), name
    letters = groups.groups(results).set_index("method")["letters"].map(set)
    assert letters["c"] == letters["d"] == letters["a"] | letters["b"]
    assert not letters["a"] & letters["b"]
    (row,) = discrimination.summary(results).itertuples()
    assert (row.separated, row.undecided, row.single) == (1, 5, 5)
    said = discrimination.one_line(discrimination.summary(results))
    assert "5 pairs share a single seed, where others share more, and are undecided" in said
    assert discrimination.ONE_TRAINING not in said


def test_what_would_show_is_tested_at_the_level_of_the_correction():
    """Three pairs on two measures are six tests."""
    results = suite(SPREAD, kept={"a": 0.9, "b": 0.85, "c": 0.5})
    found = discrimination.pairs(results)
    assert len(found) == 6
    scores = {member.stands.method: member.scores for member in next(measured(results)).members}
    spreads = {pair: significance.spread_of(*map(scores.get, pair)) for pair in ("ab", "ac", "bc")}
    lent = dict(zip(spreads, moderated(list(spreads.values()), 3), strict=True))
    gain = found[found["kind"] == "gain"].set_index(["method", "other"])
    for pair, spread in lent.items():
        row = gain.loc[tuple(pair)]
        assert row["mde_corrected"] == pytest.approx(spread.detectable(0.8, 0.05 / 6))
        assert row["mde"] == pytest.approx(spread.detectable(0.8, 0.05))
        assert row["mde"] < row["mde_corrected"]
    rows = discrimination.summary(results).set_index("kind")
    assert rows.loc["gain", "mde_corrected"] == gain["mde_corrected"].max()


def test_pairs_with_a_control_are_lent_what_the_others_have_in_common():
    results = suite(SPREAD | {"null": 0.0}, controls=["null"])
    members = {member.stands.method: member.scores for member in next(measured(results)).members}
    found = discrimination.pairs(results).set_index(["method", "other"])
    between = [significance.spread_of(*map(members.get, pair)) for pair in ("ab", "ac", "bc")]
    plain = significance.spread_of(members["a"], members["null"])
    lent = moderated(between, 3, [plain])[-1]
    of_pair = found.loc[("a", "null"), "difference"]
    assert of_pair.value - of_pair.low == pytest.approx(lent.half(0.95))
    assert lent.seeds_freedom > plain.seeds_freedom and lent.seeds > plain.seeds


def test_controls_are_set_apart_and_corrected_among_themselves():
    results = suite(SPREAD | {"null": 0.0}, controls=["null"])
    found = discrimination.pairs(results)
    apart = found[found["control"]]
    assert len(apart) == 3 and apart["p_holm"].notna().all()
    alone = discrimination.pairs(suite(SPREAD))
    kept = found[~found["control"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, alone, check_like=True)
    assert discrimination.summary(results)["methods"].tolist() == [3]
    letters = groups.groups(results).set_index("method")["letters"]
    assert letters["null"] == ""


def test_the_correction_is_over_measures_and_tasks_too():
    one = discrimination.pairs(suite(SPREAD))
    more = discrimination.pairs(suite(SPREAD, kept={"a": 0.9, "b": 0.9, "c": 0.9}))
    a_c = (one["method"] == "a") & (one["other"] == "c")
    wider = more[(more["measured"] == "test") & (more["method"] == "a") & (more["other"] == "c")]
    assert wider["p_holm"].iloc[0] >= 1.9 * one.loc[a_c, "p_holm"].iloc[0]
    assert set(more["kind"]) == {"gain", "retention"}


# --- alike --------------------------------------------------------------------------------------


def test_methods_that_are_alike_are_shown_to_be_and_others_are_not():
    found = discrimination.pairs(suite({"a": 0.8, "b": 0.8, "c": 0.7}))
    alike = found.set_index(["method", "other"])["equivalent"]
    assert alike.tolist() == [True, False, False]
    assert discrimination.pairs(
        suite({"a": 0.8, "b": 0.8}, equivalence_margin=0.001)
    )["equivalent"].tolist() == [False]  # fmt: skip


def frame(scores, seed=0):
    ids = [f"e{i:04d}" for i in range(len(scores))]
    return pd.DataFrame({"example_id": ids, "seed": seed, "score": np.asarray(scores, float)})


def test_that_none_of_n_differ_is_as_likely_as_it_is():
    """(1 - 0.05) ** 100, were five in a hundred to differ."""
    a = frame([1.0] * 100)
    assert equivalence.p_of_equivalence(a, a, 0.05, shares=True) == pytest.approx(0.95**100)
    assert math.isnan(equivalence.p_of_equivalence(a, a, 0.05, shares=False))
    assert math.isnan(equivalence.p_of_equivalence(a, frame([]), 0.05, shares=True))


def test_a_difference_at_the_margin_passes_for_none_in_one_of_twenty():
    """1,000 experiments of 400 examples; the noise of a true 5 % is 0.7 points."""
    draw, passed, inside = np.random.default_rng(0), 0, 0
    for _ in range(1000):
        hard = draw.random(400)
        b = (hard < 0.5) * 1.0
        far = (hard < 0.55) * 1.0
        noise = draw.random(400) < 0.1
        far[noise] = draw.random(noise.sum()) < 0.55
        passed += equivalence.p_of_equivalence(frame(far), frame(b), 0.05, shares=True) <= 0.05
        near = b.copy()
        near[noise] = draw.random(noise.sum()) < 0.5
        inside += equivalence.p_of_equivalence(frame(near), frame(b), 0.05, shares=True) <= 0.05
    assert passed / 1000 <= 0.064 and inside / 1000 > 0.7


def test_the_margin_is_the_suite_s_or_the_stated_one():
    assert equivalence.margin({}, "share") == 0.05
    assert equivalence.margin({"equivalence_margin": 0.02}, "share") == 0.02
    assert equivalence.margin({"equivalence_margin": 0.02}, "nats") == 0.05


# --- groups -------------------------------------------------------------------------------------


def apart(*pairs):
    return {frozenset(pair) for pair in pairs}


def test_letters_by_hand():
    assert lettered("abc", apart()) == {"a": "a", "b": "a", "c": "a"}
    assert lettered("abc", apart("ac")) == {"a": "a", "b": "ab", "c": "b"}
    assert lettered("abc", apart("ab", "ac", "bc")) == {"a": "a", "b": "b", "c": "c"}
    assert lettered("", apart()) == {}


def test_two_share_a_letter_exactly_where_they_are_not_apart():
    draw = np.random.default_rng(0)
    for count in (2, 4, 6):
        for _ in range(20):
            names = [f"m{i}" for i in range(count)]
            pairs = list(itertools.combinations(names, 2))
            told = apart(*(pair for pair in pairs if draw.random() < 0.5))
            letters = lettered(names, told)
            for a, b in pairs:
                shared = set(letters[a]) & set(letters[b])
                assert bool(shared) == (frozenset((a, b)) not in told)


def test_groups_have_the_best_first_and_nats_the_other_way_round():
    found = groups.groups(suite(SPREAD))
    assert found["method"].tolist()[2] == "c" and found["rank"].tolist() == [1, 2, 3]
    assert found["letters"].tolist() == ["a", "a", "b"]
    assert found["best"].tolist() == [True, True, False]


# --- tables -------------------------------------------------------------------------------------


def test_the_tables_say_what_is_separated_in_every_form():
    results = suite(SPREAD)
    sections = separation.sections(discrimination.summary(results), groups.groups(results))
    text = "\n".join(map(plain_text.section_text, sections))
    assert "Which methods are separated" in text and "2 of 3 pairs" in text
    assert "c       3      toy   gain     40.0" in text
    assert separation.sections(discrimination.summary(Suite("toy").results()), found_none()) == []
    assert all(isinstance(section, layout.Section) for section in sections)


def test_the_table_shows_no_difference_that_cannot_be():
    results = suite(SPREAD)
    summary, letters = discrimination.summary(results), groups.groups(results)
    for kind, number, shown in (("gain", 1.08, "none"), ("efficiency", 1.08, "108.0"),
                                ("gain", math.inf, "none"), ("gain", math.nan, "unknown"),
                                ("gain", 0.82, "82.0")):  # fmt: skip
        (pairs, _) = separation.sections(summary.assign(kind=kind, mde_corrected=number), letters)
        row = dict(zip(pairs.columns, pairs.groups[0].rows[0], strict=True))
        assert row["would show"] == shown


def found_none():
    return groups.groups(Suite("toy").results())
