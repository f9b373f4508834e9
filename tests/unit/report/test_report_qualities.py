"""Accuracy against the false share of the context: which tasks make a curve, and what is drawn."""

import math
import re

import pandas as pd
import pytest
from report_suite import describe, finish

from opcd_bench.envs.task import Context, Contexts
from opcd_bench.report.analysis import along, contexts, load, qualities
from opcd_bench.report.analysis.contexts import StoredContexts
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.figures import qualities as figure
from opcd_bench.report.figures import style
from opcd_bench.report.page import render


def told(share, count=1):
    pool = tuple(Context(f"Rules {at}, {share}.", false_share=share) for at in range(count))
    return StoredContexts(Contexts(pool), math.nan, math.nan)


# Names say nothing here: what is stored does.
TOLD = {"half": told(0.5), "none": told(0.0), "some": told(0.25), "silent": told(None),
        "pool": told(0.75, 2)}  # fmt: skip
RIGHT = {"none": (0.9, 0.95), "some": (0.7, 0.72), "half": (0.4, 0.45), "silent": (0.1, 0.1),
         "pool": (0.2, 0.2)}  # fmt: skip


def row(task, method="opcd", value=None, **more):
    student, teacher = RIGHT[task]
    value = student if value is None else value
    return {
        "task": task, "method": method, "learning_rate": 1e-3, "headline": True, "seeds": 2,
        "plain": Interval(value, value - 0.05, value + 0.05, 40),
        "ceiling": Interval(teacher, teacher - 0.02, teacher + 0.02, 40), **more,
    }  # fmt: skip


def table(*rows):
    return pd.DataFrame(rows)


def test_a_curve_has_the_tasks_that_declare_a_share_the_teacher_first():
    frame = qualities.qualities(table(*(row(task) for task in TOLD)), TOLD)
    assert list(zip(frame["method"], frame["false_share"], strict=True)) == [
        (qualities.TEACHER, 0.0), (qualities.TEACHER, 0.25), (qualities.TEACHER, 0.5),
        ("opcd", 0.0), ("opcd", 0.25), ("opcd", 0.5),
    ]  # fmt: skip
    assert [one.value for one in frame["accuracy"]] == [0.95, 0.72, 0.45, 0.9, 0.7, 0.4]


def test_rates_that_are_not_compared_and_other_ceilings_are_no_part():
    rows = [
        *(row(task, **{"measured against": "ceiling-hint"}) for task in TOLD),
        row("none", value=0.1, headline=False),
        row("none", "jsd", seeds=0),
    ]
    frame = qualities.qualities(table(*rows), TOLD)
    assert list(frame["method"]) == ["opcd"] * 3
    assert frame["accuracy"].iloc[0].value == 0.9


def test_two_shares_are_no_curve_and_one_share_twice_is_left_out():
    two = {name: TOLD[name] for name in ("half", "none", "silent", "pool")}
    assert qualities.shares(two) == {}
    assert qualities.qualities(table(row("half"), row("none")), two).empty
    assert set(qualities.shares({**TOLD, "again": told(0.5), "more": told(1.0)})) == {
        "none", "some", "more",
    }  # fmt: skip


def test_a_method_changes_from_the_least_share_to_the_largest():
    rows = [*(row(task) for task in TOLD), row("none", "jsd")]
    rows += [row(task, "control_shuffled", control=True) for task in TOLD]
    teacher, opcd = qualities.changes(qualities.qualities(table(*rows), TOLD)).itertuples()
    assert (teacher.method, opcd.method) == (qualities.TEACHER, "opcd")
    assert (opcd.first, opcd.last) == (0.0, 0.5)
    assert opcd.change.value == pytest.approx(-0.5)
    assert opcd.change.high - opcd.change.value == pytest.approx(math.hypot(0.05, 0.05))


def test_a_line_a_method_and_one_sentence():
    rows = [row(task, method) for method in ("opcd", "forward_kl") for task in TOLD]
    frame = qualities.qualities(table(*rows), TOLD)
    marks = style.palette(["opcd", "forward_kl"])
    drawn = figure.drawn(frame, marks)
    assert list(drawn.data.columns) == figure.DATA
    assert drawn.data.groupby("line", sort=False).size().to_dict() == {
        qualities.TEACHER: 3, "opcd": 3, "forward_kl": 3,
    }  # fmt: skip
    assert "OPCD: 90.0 % with 0 %, 70.0 % with 25 % and 40.0 % with 50 %." in drawn.alt
    said = figure.conclusion(qualities.changes(frame), marks)
    assert said.startswith("From 0 to 50 % false lines, points of accuracy: in-context teacher −50")
    assert "OPCD −50.0 [−57.1, −42.9]" in said
    assert figure.conclusion(pd.DataFrame(columns=along.CHANGES), marks) == ""


def test_the_page_has_it_where_three_tasks_declare_different_shares(tmp_path, monkeypatch):
    suite = describe(tmp_path / "made")
    finish(suite, "opcd", 1e-3, 0)
    results = load.load(suite.path)
    assert "data/qualities.csv" not in render.render(results, command="c")
    monkeypatch.setattr(
        contexts, "of", lambda _: {"toy": told(0.25), "x": told(0.0), "y": told(0.5)}
    )
    files = render.render(results, command="c")
    page = files["index.html"].decode()
    assert re.search(r'<section id="qualities".*?figures/qualities\.svg', page, flags=re.DOTALL)
    assert page.count('href="#qualities"') == 2 and "Accuracy on test, in %" in page
    assert files["figures/qualities.csv"] and files["data/qualities.csv"]
