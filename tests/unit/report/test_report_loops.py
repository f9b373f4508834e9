"""Responses that run in a loop: found by their words, and shown beside accuracy."""

from dataclasses import replace

import pytest

from opcd_bench.report.analysis import headline
from opcd_bench.report.analysis.load import WITHOUT_LOOPS, load
from opcd_bench.report.analysis.loops import loops, score_without_loops
from opcd_bench.report.tables import layout
from tests import report_suite


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("El el el el el", True),
        ("Puedes usar agua y jabón. Puedes usar agua y jabón. Puedes usar agua y jabón.", True),
        ("Puedes lavarlo con agua y un poco de jabón, y luego secarlo al sol.", False),
        ("no no no", False),  # too short to tell
        ("", False),
        ("好的好的好的好的好的", True),  # no spaces: by character
        ("用温水和一点肥皂清洗，然后在阳光下晾干。", False),
        ("7 dax 5 = 26\n26 keeps 6\n6 dax 2 = 20\nAnswer: 20", False),
    ],
)
def test_a_loop_is_told_from_an_answer(response, expected):
    assert loops(response) is expected


def test_a_third_of_repeated_sequences_is_not_yet_a_loop():
    words = "a b c d e f g".split()  # five sequences of three words
    assert not loops(" ".join([*words, "a", "b", "c"]))  # 1 of 8
    assert loops(" ".join(words * 2))  # 5 of 12


def row(*replies, score=1.0):
    return {"score": score, "turns": [{"reply": reply} for reply in replies]}


def test_only_right_responses_of_one_turn_lose_their_score():
    assert score_without_loops(row("si si si si si")) == 0.0
    assert score_without_loops(row("esto es una respuesta bastante buena")) == 1.0
    assert score_without_loops(row("[a] [a] [a] [a] [a]", "[b]")) == 1.0
    assert score_without_loops(row("si si si si si", score=None)) is None
    assert score_without_loops(row("<think>so so so so so so</think>lo lavas con agua")) == 1.0
    assert score_without_loops({"score": 1.0, "prompt": "x", "reply": "y"}) == 1.0


@pytest.fixture
def stored(tmp_path):
    return load(report_suite.whole(tmp_path / "mine").path)


def looping(results, method):
    """The results as if all right responses of a method had been loops."""
    samples = results.samples.copy()
    mine = (samples["method"] == method) & (samples["split"] == "test")
    samples.loc[mine, WITHOUT_LOOPS] = 0.0
    return replace(results, samples=samples)


def test_the_table_has_both_accuracies_where_they_differ(stored):
    table = headline.headline(looping(stored, "opcd"))
    first = layout.sections(table)[0]
    at = first.columns.index("without loops")
    assert first.columns[at - 1] == "accuracy"
    accuracy, without = ({line[0]: line[i] for line in first.groups[0].rows} for i in (at - 1, at))
    assert accuracy["opcd"].value > 0.0 == without["opcd"].value
    assert without["forward_kl"] == accuracy["forward_kl"]
    assert without["base"] == accuracy["base"] and without["ceiling"] == accuracy["ceiling"]
    assert any(line.startswith("Without loops") for line in layout.caption(table))


def test_a_table_without_loops_has_no_such_column(stored):
    table = headline.headline(stored)
    assert "without loops" not in table
    assert "without loops" not in layout.sections(table)[0].columns
    assert not any(line.startswith("Without loops") for line in layout.caption(table))
