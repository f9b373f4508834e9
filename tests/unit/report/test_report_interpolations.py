"""The way from the base to trained students, as numbers and as a figure."""

import pandas as pd
import pytest
from report_comparison import interval

from opcd_bench.report.analysis import entrants, forgetting
from opcd_bench.report.figures import interpolations as figure
from opcd_bench.report.figures import style

MARKS = style.palette(["opcd", "sft_context"])


@pytest.fixture
def entered():
    rows = [
        ("toy", f"{method} at {share}", "interpolation", method, share, rate, 3, interval(0.5),
         interval(0.1), interval(gain), interval(0.8), interval(change))
        for method, rate in (("opcd", 1e-3), ("sft_context", 1e-3), ("sft_context", 1e-4))
        for share, gain, change in ((0.25, 0.1, -0.01), (0.75, 0.3, -0.05))
    ]  # fmt: skip
    rows.append(("toy", "mine", "checkpoint", None, None, None, 1, interval(0.5), interval(0.1),
                 interval(0.4), interval(0.8), interval(0.0)))  # fmt: skip
    return pd.DataFrame(rows, columns=[*entrants.COLUMNS, "keep after", "keep change"])


@pytest.fixture
def points():
    rows = [
        ("toy", "keep", method, 1e-3, seed, interval(0.4), interval(0.5), interval(-0.1), False)
        for method in ("opcd", "sft_context", "alone")
        for seed in (None, 0)
    ]
    frame = pd.DataFrame(rows, columns=forgetting.POINTS)
    return frame.assign(seed=pd.Series([row[4] for row in rows], dtype=object))


def test_the_way_ends_at_the_trained_student_at_its_own_rate(entered, points):
    flat = figure.data(entered, points, "toy")
    assert list(flat.columns) == figure.DATA
    assert [tuple(row) for row in flat[["method", "share", "gain"]].to_numpy()] == [
        ("opcd", 0.25, 0.1), ("opcd", 0.75, 0.3), ("opcd", 1.0, 0.4),
        ("sft_context", 0.25, 0.1), ("sft_context", 0.75, 0.3), ("sft_context", 1.0, 0.4),
    ]  # fmt: skip
    assert set(flat["learning_rate"]) == {1e-3} and set(flat["measured"]) == {"keep"}


def test_the_figure_says_how_much_of_the_way_and_what_it_is_worth(entered, points):
    flat = figure.data(entered, points, "toy")
    drawn = figure.drawn(flat, "toy", MARKS)
    assert drawn.name == "interpolations-toy" and "25 % and 75 % of the way" in drawn.caption
    assert list(flat["seeds"]) == [3, 3, 1] * 2
    assert "over seeds and examples; of one seed percentile bootstrap" in drawn.caption
    said = figure.conclusion(flat, MARKS)
    assert "OPCD, 25 % of the way: gain +10.0 of +40.0 points, keep −1.0 of −10.0" in said


def test_without_interpolations_there_is_no_way(entered, points):
    assert figure.data(entered[entered["kind"] == "checkpoint"], points, "toy").empty
    assert figure.conclusion(figure.data(entered.iloc[:0], points, "toy"), MARKS) == ""
