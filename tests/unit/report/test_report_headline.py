"""Which rate a method is compared at, what it cost, and the smallest difference to be found."""

import math

import pandas as pd
import pytest
import report_store
from report_store import (
    BASE,
    CEILING,
    GOOD,
    RETAINED,
    anchored,
    begin,
    cell,
    finished,
    many,
    sample_rows,
)

from opcd_bench.report.analysis import significance
from opcd_bench.report.analysis.detectable import detectable
from opcd_bench.report.analysis.headline import headline, points, standing_still
from opcd_bench.report.analysis.load import load
from opcd_bench.report.tables.layout import sections
from opcd_bench.store.suite_dir import SuiteDir

T_OF_FOUR = 4.255899
"""Standard errors that t of three degrees finds at 5 % in 80 %: nct.sf(t(.975), 3, this) = .8."""
"""Standard errors that four examples must differ by to be found: 3.1824 + 0.9785."""


@pytest.fixture
def suite(tmp_path):
    folder = SuiteDir(tmp_path / "toys")
    folder.merge({"name": "toys", "tasks": ["toy"], "methods": ["good"],
                  "learning_rate": [1e-3, 1e-2, 1e-1], "seeds": 2, "sweep_seeds": 1,
                  "headline_learning_rate": "dev"})  # fmt: skip
    return folder


@pytest.fixture
def of_many(monkeypatch):
    """Base and ceiling of 32 examples."""
    for name in ("BASE", "CEILING"):
        monkeypatch.setattr(report_store, name, many(getattr(report_store, name)))


def stands(suite):
    return [
        (point.method, point.learning_rate, point.seeds)
        for point in points(load(suite.path)).itertuples()
    ]


def swept(suite, *dev, method="good", test=GOOD):
    """One seed at each of the suite's rates, with these accuracies on dev."""
    for rate, value in zip([1e-3, 1e-2, 1e-1], dev, strict=True):
        finished(suite, cell(method, rate=rate), test, dev=value)


def test_the_rate_is_chosen_on_dev_and_never_on_test(suite):
    """Test would say the largest rate; the rule is that of grid.headline_rates."""
    finished(suite, cell("good", rate=1e-3), BASE, dev=0.5)
    finished(suite, cell("good", rate=1e-2), BASE, dev=0.75)
    finished(suite, cell("good", rate=1e-1), CEILING, dev=0.25)
    assert stands(suite) == [("good", 1e-2, (0,))]


def test_of_equal_rates_the_smallest_stands(suite):
    swept(suite, 0.25, 0.75, 0.75)
    assert stands(suite) == [("good", 1e-2, (0,))]


def test_more_seeds_go_before_a_higher_dev_accuracy(suite):
    """The grid ran them there: a rate that was swept with one seed cannot take that back."""
    swept(suite, 0.25, 0.75, 0.5)
    finished(suite, cell("good", rate=1e-1, seed=1), GOOD, dev=0.5)
    assert stands(suite) == [("good", 1e-1, (0, 1))]


def test_dev_is_read_at_the_chosen_step_of_the_task_itself(suite):
    swept(suite, 0.25, 0.5, 0.5)
    results = load(suite.path)
    stray = results.evals.iloc[[0, 0]].assign(value=1.0)
    at = stray.assign(step=[20, 10], measured=["toy", "keep"])  # neither is the task at its step
    mixed = pd.concat([results.evals, at], ignore_index=True)
    object.__setattr__(results, "evals", mixed)
    assert list(points(results)["learning_rate"]) == [1e-2]


def test_a_method_without_a_score_on_dev_stands_at_its_smallest_rate(suite):
    swept(suite, None, None, None)
    assert stands(suite) == [("good", 1e-3, (0,))]


def test_a_method_without_a_finished_cell_stands_nowhere(suite):
    with begin(suite, cell("good")) as run:
        run.fail("cold", "")
    assert stands(suite) == []
    table = headline(load(suite.path))
    assert not table["headline"].any() and not (table["seeds"] > 0).any()


def test_rows_come_with_the_compared_rate_first_and_the_others_ascending(suite):
    suite.merge({"methods": ["good", "also"]})
    swept(suite, 0.25, 0.75, 0.5)
    swept(suite, 0.75, 0.25, 0.5, method="also")
    table = headline(load(suite.path))
    assert list(zip(table["method"], table["learning_rate"], table["headline"], strict=True)) == [
        ("good", 1e-2, True), ("also", 1e-3, True),
        ("good", 1e-3, False), ("good", 1e-1, False),
        ("also", 1e-2, False), ("also", 1e-1, False),
    ]  # fmt: skip


def test_once_the_sweep_is_done_the_chosen_rate_lacks_the_seeds_that_it_will_get(suite):
    finished(suite, cell("good", rate=1e-3), GOOD, dev=0.75)
    early = headline(load(suite.path)).set_index("learning_rate")["state"]
    assert (early[1e-3], early[1e-2]) == ("done", "not run")
    finished(suite, cell("good", rate=1e-2), GOOD, dev=0.5)
    finished(suite, cell("good", rate=1e-1), GOOD, dev=0.5)
    state = headline(load(suite.path)).set_index("learning_rate")["state"]
    assert (state[1e-3], state[1e-2]) == ("1 of 2 seeds missing (not run)", "done")


def test_tokens_that_the_teacher_wrote_count_as_written(suite):
    """A run that reads the teacher's replies writes nothing itself, and they were paid for."""
    teacher = {"tokens_written": 0, "student_tokens_trained": 900}
    finished(suite, cell("good", writer="teacher"), GOOD, **teacher)
    mixed = {"tokens_written": 400, "student_tokens_trained": 1000}
    finished(suite, cell("fine", writer="mixture"), GOOD, **mixed)
    dropped = {"tokens_written": 500, "student_tokens_trained": 450}  # some replies were too long
    finished(suite, cell("own"), GOOD, **dropped)
    table = headline(load(suite.path)).set_index(["method", "learning_rate"])
    written = {method: table.loc[(method, 1e-3), "tokens written"] for method in ("good", "fine")}
    assert written == {"good": 900, "fine": 1000}
    assert table.loc[("own", 1e-3), "tokens written"] == 500


def test_costs_are_means_over_the_seeds_and_the_runs_are_named(suite):
    finished(suite, cell("good", seed=1), GOOD, seconds=[3.0], tokens_written=100)
    finished(suite, cell("good", seed=0), GOOD, seconds=[2.0, 3.0], tokens_written=300)
    row = headline(load(suite.path)).iloc[0]
    assert row["seconds"] == pytest.approx(4.0)
    assert row["tokens written"] == 200
    assert [run.split("--")[2] for run in row["runs"]] == ["s0", "s1"]


def test_retention_has_a_smallest_difference_of_its_own(suite, monkeypatch):
    """Of four examples no difference is found; were t alone to decide, it would be this one."""
    finished(suite, cell("good"), GOOD, RETAINED)
    finished(suite, cell("also"), GOOD, {**RETAINED, "r0": 0.0, "r2": 1.0})
    assert math.isinf(detectable(load(suite.path), ("toy", "good", 1e-3), "keep"))
    monkeypatch.setattr(significance, "FEW_DIFFER", 0)
    assert detectable(load(suite.path), ("toy", "good", 1e-3), "keep") > 0


def test_retention_has_a_smallest_difference_of_its_own_by_t(suite, monkeypatch):
    """On keep the two methods differ on two of four, on test on none."""
    monkeypatch.setattr(significance, "FEW_DIFFER", 0)
    finished(suite, cell("good"), GOOD, RETAINED)
    finished(suite, cell("also"), GOOD, {**RETAINED, "r0": 0.0, "r2": 1.0})
    results = load(suite.path)
    expected = T_OF_FOUR * math.sqrt(2 / 3) / 2
    assert detectable(results, ("toy", "good", 1e-3), "keep") == pytest.approx(expected, rel=1e-5)
    table = headline(results).set_index(["method", "learning_rate"])
    assert table.loc[("also", 1e-3), "mde keep"] == pytest.approx(expected, rel=1e-5)
    assert math.isnan(table.loc[("also", 1e-3), "mde"])


def test_base_and_ceiling_are_paired_with_every_seed(suite, of_many):
    for seed, scores in enumerate((many(GOOD), many(CEILING))):
        finished(suite, cell("good", seed=seed), scores)
    row = headline(load(suite.path)).iloc[0]
    assert row["gap closed"].value == pytest.approx((0.625 - 0.25) / (0.75 - 0.25))


def test_the_same_results_give_the_same_table_twice(suite):
    swept(suite, 0.25, 0.5, 0.5)
    pd.testing.assert_frame_equal(headline(load(suite.path)), headline(load(suite.path)))


def test_a_method_of_the_larger_teacher_is_measured_against_that_teachers_ceiling(suite, of_many):
    larger = cell("better")
    larger["method"]["teacher"] |= {"weights": "larger"}
    finished(suite, cell("good"), many(GOOD))
    finished(suite, larger, many(GOOD))
    shared = suite.shared("toy", "k")
    best = [{"measured": {}}, *sample_rows("toy", "test", dict.fromkeys(many(CEILING), 1.0))]
    shared.put("ceiling-larger-test-s0", best)
    anchor = {
        "reading": "ceiling-larger", "shared": shared.path.name, "name": "ceiling-larger-test-s0",
    }  # fmt: skip
    finished(suite, cell("other"), many(GOOD), anchors=[*anchored(suite), anchor])
    table = headline(load(suite.path))
    table = table[table["learning_rate"] == 1e-3].set_index("method")
    assert table.loc["good", "ceiling"].value == 0.75 and not table.loc["good", "larger"]
    assert table.loc["better", "ceiling"].value == 1.0 and table.loc["better", "larger"]
    assert table.loc["better", "gap closed"].value == pytest.approx(1 / 3)
    assert table.loc["good", "gap closed"].value == pytest.approx(1 / 2)
    (gains, *_) = sections(table.reset_index())
    accuracies = {row[0]: row[gains.columns.index("accuracy")] for row in gains.groups[0].rows}
    assert accuracies["ceiling"].value == 0.75 and accuracies["ceiling, larger"].value == 1.0


def test_who_stands_at_the_base_has_it_as_the_chosen_step_of_every_training():
    rows = [
        ("toy", "a", True, 2, [0, 0]), ("toy", "b", True, 2, [0, 25]), ("toy", "c", True, 0, None),
        ("toy", "d", False, 1, [0]),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["task", "method", "headline", "seeds", "steps"])
    assert standing_still(table) == [("toy", "a")]
