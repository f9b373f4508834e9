"""Claims of a suite: the word that an interval earns, and arms that were run or not."""

import math

import pytest
from pydantic import ValidationError
from report_suite import describe, finish

from opcd_bench.config.claims import Claim, arm
from opcd_bench.report.analysis import claims, load, statistics
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.figures import claims as figure
from opcd_bench.report.page import render
from opcd_bench.report.tables import claims as table


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
    for open_one in (4, 5):
        assert math.isnan(frame["effect"][open_one].value)
        assert frame["word"][open_one] == claims.OPEN
    half = (frame["effect"][0].high - frame["effect"][0].low) / 2
    assert frame["mde"][0] == pytest.approx(half * 2.8 / 1.96, rel=1e-3)


def test_the_table_says_each_claim_and_its_word_and_one_line_says_all(results):
    frame = claims.claims(results)
    (section,) = table.sections(frame)
    assert [line[0] for line in section.groups[0].rows] == [one["text"] for one in STATED]
    assert {line[-1] for line in section.groups[0].rows} <= {
        claims.REPRODUCED, claims.NOT, claims.OPEN,
    }  # fmt: skip
    assert table.conclusion(frame).startswith("Of 6 claims: ")
    assert table.sections(frame.iloc[:0]) == []


def test_arms_of_different_tasks_differ_by_the_root_of_both_squares():
    found = claims.apart(Interval(0.5, 0.46, 0.54, 9), Interval(0.2, 0.17, 0.23, 5))
    assert found.value == pytest.approx(0.3) and found.n == 5
    assert found.high - found.value == pytest.approx(0.05)


def test_the_page_says_the_conclusion_first_and_shows_every_effect_that_was_measured(results):
    files = render.render(results, command="c")
    page = files["index.html"].decode()
    assert page.index('href="#claims"') < page.index('id="claims"')
    assert all(one["text"] in files["claims.md"].decode() for one in STATED)
    drawn = figure.drawn(claims.claims(results))
    assert drawn is not None and list(drawn.data["claim"]) == [one["text"] for one in STATED[:4]]
    assert "figures/claims.svg" in files and "Training helps." in drawn.alt
    assert figure.drawn(claims.claims(results).iloc[4:]) is None
