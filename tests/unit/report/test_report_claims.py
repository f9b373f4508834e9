"""Claims of a suite: the word that an interval earns, and arms that were run or not."""

import math

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from report_suite import describe, finish
from scipy import stats

from opcd_bench.config.claims import Claim, arm
from opcd_bench.report.analysis import claims, equivalence, load, significance, statistics
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.figures import claims as figure
from opcd_bench.report.page import render
from opcd_bench.report.tables import claims as table
from opcd_bench.report.tables import markup


def judged(low, value, high, direction="above", threshold=0.0):
    return claims.judged(Interval(value, low, high, 50), direction, threshold)


def test_above_is_reproduced_where_the_interval_excludes_0_and_the_effect_counts():
    assert judged(0.01, 0.1, 0.2) == claims.REPRODUCED
    assert judged(0.01, 0.1, 0.2, threshold=0.15) == claims.OPEN
    assert judged(-0.05, 0.1, 0.2) == claims.OPEN
    assert judged(-0.2, -0.1, 0.0) == claims.NOT
    assert judged(0.01, 0.03, 0.05, threshold=0.1) == claims.NOT
    assert judged(-0.05, 0.0, 0.05, threshold=0.1) == claims.NOT
    assert judged(math.nan, 0.3, math.nan) == claims.OPEN


@pytest.mark.parametrize("threshold", [0.0, 0.1])
@pytest.mark.parametrize("bounds", [(0.01, 0.1, 0.2), (-0.05, 0.1, 0.2), (-0.2, -0.1, -0.05)])
def test_below_is_above_with_the_sign_turned(bounds, threshold):
    low, value, high = bounds
    assert judged(low, value, high, "below", threshold) == judged(
        -high, -value, -low, "above", threshold
    )


def test_alike_wants_the_whole_interval_within_the_threshold():
    assert judged(-0.04, 0.0, 0.04, "alike", 0.05) == claims.REPRODUCED
    assert judged(-0.04, 0.02, 0.08, "alike", 0.05) == claims.OPEN
    assert judged(0.06, 0.1, 0.2, "alike", 0.05) == claims.NOT
    assert judged(-0.2, -0.1, -0.06, "alike", 0.05) == claims.NOT


def test_an_arm_is_a_method_on_a_task():
    assert arm("opcd[k=4] on rule_math") == ("opcd[k=4]", "rule_math")
    for wrong in (
        {"first": "opcd"},
        {"first": "opcd on toy", "measure": "rescue"},
        {"first": "opcd on toy", "teacher": "in-context", "share": 0.5},
        {"first": "opcd on toy", "second": "sft on toy", "direction": "alike"},
        {"first": "opcd on toy", "thresold": 0.1},
    ):
        with pytest.raises(ValidationError):
            Claim.model_validate({"text": "It is so.", **wrong})


STATED = [
    {"text": "They are alike.", "first": "opcd on toy", "second": "forward_kl on toy"},
    {"text": "Training helps.", "first": "opcd on toy", "second": "base on toy", "threshold": 0.2},
    {"text": "It gains.", "first": "opcd on toy", "measure": "change"},
    {"text": "The gap closes.", "first": "opcd on toy", "measure": "gap closed"},
    {"text": "They gain alike.", "first": "opcd on toy", "second": "forward_kl on toy",
     "measure": "change"},
    {"text": "Their gaps close alike.", "first": "opcd on toy", "second": "forward_kl on toy",
     "measure": "gap closed"},
    {"text": "Nobody ran it.", "first": "jsd on toy", "second": "opcd on toy"},
    {"text": "Nobody probed it.", "first": "opcd on toy", "measure": "rescue",
     "teacher": "in-context", "share": 0.5},
]  # fmt: skip


@pytest.fixture
def results(tmp_path):
    suite = describe(tmp_path / "made", claims=STATED)
    for method in ("opcd", "forward_kl"):
        for seed in range(2):
            finish(suite, method, 1e-3, seed)
    return load.load(suite.path)


def test_every_claim_has_its_effect_and_those_that_were_not_run_stay_open(results):
    frame = claims.claims(results)
    assert list(frame["claim"]) == [one["text"] for one in STATED]
    finals = results.finals
    a, b = (finals["toy", method, 1e-3]["test"] for method in ("opcd", "forward_kl"))
    assert frame["effect"][0] == statistics.difference(a, b)
    base = results.anchor("base", "toy", "test")
    assert frame["effect"][1] == frame["effect"][2] == statistics.difference(a, base)
    assert frame["effect"][3].value == pytest.approx(
        statistics.gap_closed(a, base, results.ceiling("toy", "opcd")).value
    )
    assert frame["effect"][4] == frame["effect"][0], "of changes on one task the base cancels"
    ceiling = results.ceiling("toy", "opcd")
    assert frame["effect"][5] == statistics.gap_difference(a, b, base, ceiling)
    gap = statistics.difference(ceiling, base).value
    assert frame["effect"][5].value == pytest.approx(frame["effect"][0].value / gap)
    for open_one in (6, 7):
        assert math.isnan(frame["effect"][open_one].value)
        assert frame["word"][open_one] == claims.OPEN
    assert frame["mde"][0] == pytest.approx(significance.minimum_detectable_effect(a, b))


def test_the_table_says_each_claim_and_its_word_and_one_line_says_all(results):
    frame = claims.claims(results)
    (section,) = table.sections(frame)
    html = markup.sections_html([section])
    assert '<th scope="row">They are alike.' in html  # no sentence is long in that column
    assert '<td class="words">OPCD, less Forward KL, on toy</td>' in html
    assert markup.section_markdown(section).splitlines()[3].endswith("| --- | --: | --- |")
    assert [line[0] for line in section.groups[0].rows] == [one["text"] for one in STATED]
    assert {line[1] for line in section.groups[0].rows} <= {
        claims.REPRODUCED, claims.NOT, claims.OPEN,
    }  # fmt: skip
    assert table.conclusion(frame).startswith("Of 8 claims: ")
    assert table.sections(frame.iloc[:0]) == []


def test_arms_of_different_tasks_differ_by_the_root_of_both_squares():
    found = statistics.apart(Interval(0.5, 0.46, 0.54, 9), Interval(0.2, 0.17, 0.23, 5))
    assert found.value == pytest.approx(0.3) and found.n == 5
    assert found.high - found.value == pytest.approx(0.05)
    aside = statistics.apart(Interval(0.5, 0.46, 0.58, 9), Interval(0.2, 0.14, 0.23, 5))
    assert aside.value - aside.low == pytest.approx(0.05)
    assert aside.high - aside.value == pytest.approx(0.1)


def test_of_few_seeds_it_is_welch_and_not_the_root_of_two_wide_intervals():
    first, second = np.random.default_rng(0).normal(size=(2, 3))

    def interval(values):
        error = values.std(ddof=1) / math.sqrt(len(values))
        half = statistics.quantile(2.0) * error
        return Interval(values.mean(), values.mean() - half, values.mean() + half, 3, 2.0)

    found = statistics.apart(interval(first), interval(second))
    welch = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high))
    assert found.freedom == pytest.approx(stats.ttest_ind(first, second, equal_var=False).df)


def mde(interval, **said):
    claim = {"text": "So.", "first": "a on t", "second": "b on t", **said}
    return claims.detectable(interval, Claim.model_validate(claim))


def test_what_is_detectable_takes_the_t_of_the_interval_and_the_side_that_is_not_cut_off():
    wide = Interval(0.9, 0.5, 1.0, 9, 2.0)
    errors = mde(wide) / (0.4 / stats.t.ppf(0.975, 2))
    assert stats.nct.sf(stats.t.ppf(0.975, 2), 2, errors) == pytest.approx(0.8)
    assert mde(Interval(0.0, -0.1, 0.1, 9)) == pytest.approx(0.1 * 2.8 / 1.96, rel=1e-3)
    assert math.isnan(mde(Interval(0.1, math.nan, math.nan, 9)))


@pytest.mark.parametrize(
    "said",
    [{}, {"threshold": 0.3}, {"threshold": 0.05}, {"threshold": 0.3, "second": None},
     {"direction": "below", "threshold": 0.3}],
)  # fmt: skip
def test_an_effect_that_is_detectable_is_reproduced_in_four_of_five_repetitions(said):
    sign = -1 if said.get("direction") == "below" else 1
    effect = sign * mde(Interval(0.0, -0.1, 0.1, 9), **said)
    found = np.random.default_rng(0).normal(effect, 0.1 / stats.norm.ppf(0.975), 4000)
    words = [
        claims.judged(
            Interval(v, v - 0.1, v + 0.1, 9), said.get("direction", "above"),
            said.get("threshold", 0.0), alone=said.get("second", 1) is None,
        )
        for v in found
    ]  # fmt: skip
    assert np.mean([word == claims.REPRODUCED for word in words]) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("direction", ["alike", "at least", "at most"])
def test_with_the_threshold_that_is_detectable_no_difference_is_found_in_four_of_five(direction):
    threshold = mde(Interval(0.0, -0.1, 0.1, 9), direction=direction, threshold=0.01)
    found = np.random.default_rng(0).normal(0.0, 0.1 / stats.norm.ppf(0.975), 4000)
    words = [claims.judged(Interval(v, v - 0.1, v + 0.1, 9), direction, threshold) for v in found]
    assert np.mean([word == claims.REPRODUCED for word in words]) == pytest.approx(0.8, abs=0.02)


def test_at_least_and_at_most_are_alike_on_one_side():
    worse, better = (-0.2, -0.1, -0.06), (0.06, 0.1, 0.2)
    assert judged(*better, "at least", 0.05) == judged(*worse, "at most", 0.05) == claims.REPRODUCED
    assert judged(*worse, "at least", 0.05) == judged(*better, "at most", 0.05) == claims.NOT
    assert judged(-0.08, 0.0, 0.08, "at least", 0.05) == claims.OPEN
    with pytest.raises(ValidationError, match="at least needs a second arm"):
        Claim.model_validate(
            {"text": "So.", "first": "a on t", "direction": "at least", "threshold": 0.1}
        )


def test_all_of_the_interval_of_an_arm_alone_must_count():
    interval = Interval(0.51, 0.05, 0.97, 50)
    assert claims.judged(interval, "above", 0.5) == claims.REPRODUCED
    assert claims.judged(interval, "above", 0.5, alone=True) == claims.OPEN
    assert claims.judged(Interval(0.6, 0.51, 0.7, 50), "above", 0.5, alone=True) == (
        claims.REPRODUCED
    )


def test_nothing_is_decided_where_a_planned_training_is_missing_or_seeds_are_not_the_same(tmp_path):
    stated = {"text": "It helps.", "first": "opcd on toy", "second": "base on toy"}
    pair = {**stated, "second": "forward_kl on toy", "direction": "alike", "threshold": 9.0}
    suite = describe(tmp_path / "few", claims=[stated, pair], seeds=3, learning_rate=[1e-3])
    for seed in range(2):
        finish(suite, "opcd", 1e-3, seed)
    for seed in range(1, 4):
        finish(suite, "forward_kl", 1e-3, seed)
    frame = claims.claims(load.load(suite.path))
    assert list(frame["seeds"]) == [2, 1] and set(frame["planned"]) == {3}
    assert set(frame["word"]) == {claims.OPEN}
    assert "2 of 3" in markup.sections_html(table.sections(frame))
    finish(suite, "opcd", 1e-3, 2)
    frame = claims.claims(load.load(suite.path))
    assert list(frame["seeds"]) == [3, 2] and frame["word"][1] == claims.OPEN


def test_few_examples_that_differ_are_not_alike_by_that():
    assert equivalence.p_of_few(np.zeros(72), np.zeros(72), 0.05) < 0.05
    one = np.zeros(72)
    one[0] = 1.0
    assert equivalence.p_of_few(one, np.zeros(72), 0.05) == pytest.approx(0.12, abs=0.01)


class Arms(claims._Arms):
    """Two arms with these differences, in two trainings that are alike."""

    def __init__(self, differences):
        def samples(scores):
            ids = [f"e{i}" for i in range(len(scores))]
            return pd.DataFrame({"example_id": ids * 2, "score": [*scores, *scores],
                                 "seed": np.repeat([0, 1], len(scores))})  # fmt: skip

        both = np.array(differences, dtype=float)
        self.both = samples(both.clip(0)), samples((-both).clip(0))

    def _both(self, claim):
        return self.both


@pytest.mark.parametrize(
    ("differences", "word"),
    [([1] * 10 + [-1] + [0], claims.REPRODUCED), ([1] * 9 + [-1] * 2 + [0], claims.OPEN),
     ([1] * 5 + [0] * 7, claims.OPEN), ([1] * 6 + [0] * 6, claims.REPRODUCED)],
)  # fmt: skip
def test_few_examples_that_differ_are_not_unlike_by_t_alone(differences, word):
    """The exact p of their signs: 10 against 1 .012, 9 against 2 .065, 5 of 5 .063, 6 of 6 .031."""
    arms = Arms(differences)
    effect = statistics.difference(*arms.both)
    for turned, direction in ((1, "above"), (-1, "below")):
        claim = {"text": "So.", "first": "a on t", "second": "b on t", "direction": direction}
        arms.both = arms.both[::turned]
        shown = statistics.difference(*arms.both)
        assert shown.value == turned * effect.value
        assert arms.judged(shown, Claim.model_validate(claim)) == word


def test_every_arm_must_have_the_trainings_that_it_was_to_have(monkeypatch):
    """Two of two and four of five are not two of two: the fifth may have failed."""
    done = {"a": {0, 1}, "b": {0, 1, 2, 3}}
    wanted = {"a": 2, "b": 5}
    monkeypatch.setattr(Arms, "_seeds", lambda self, claim, method, task: done[method])
    monkeypatch.setattr(Arms, "_planned", lambda self, method, task: wanted[method])
    claim = Claim.model_validate({"text": "So.", "first": "a on t", "second": "b on t"})
    arms = Arms([0.0])
    assert arms.trainings(claim) == (4, 5)
    done["b"] = {0, 1, 2, 3, 4}
    assert arms.trainings(claim) == (2, 2)
    done["a"] = {7, 8}
    assert arms.trainings(claim) == (0, 2), "no seed of both"


def test_one_training_decides_nothing_whatever_its_interval(tmp_path):
    helps = {"text": "It helps.", "first": "opcd on toy", "second": "base on toy"}
    alike = {**helps, "text": "It is as it was.", "direction": "alike", "threshold": 9.0}
    suite = describe(tmp_path / "one", claims=[alike, helps])
    finish(suite, "opcd", 1e-3, 0)
    assert list(claims.claims(load.load(suite.path))["word"]) == [claims.OPEN, claims.OPEN]
    finish(suite, "opcd", 1e-3, 1)
    assert claims.claims(load.load(suite.path))["word"][0] == claims.REPRODUCED


def test_the_table_has_the_names_that_the_page_has(results):
    frame = claims.claims(results).iloc[:1]
    frame = frame.assign(contrast="opcd[weights=larger], less sft_context, on rule_math")
    (section,) = table.sections(frame)
    (row,) = section.groups[0].rows
    assert row[-1] == "OPCD [larger teacher], less SFT, on rule_math"


def test_the_page_says_the_conclusion_first_and_shows_every_effect_that_was_measured(results):
    files = render.render(results, command="c")
    page = files["index.html"].decode()
    assert page.index('href="#claims"') < page.index('id="claims"')
    assert all(one["text"] in files["claims.md"].decode() for one in STATED)
    drawn = figure.drawn(claims.claims(results))
    assert drawn is not None and list(drawn.data["claim"]) == [one["text"] for one in STATED[:6]]
    assert "figures/claims.svg" in files and "Training helps." in drawn.alt
    assert figure.drawn(claims.claims(results).iloc[6:]) is None
