"""The headline table of a small results folder made by hand, through the store itself."""

import math

import pytest

from opcd_bench.config import digest
from opcd_bench.errors import StoreError
from opcd_bench.report import tables
from opcd_bench.report.load import load
from opcd_bench.store import RunDir, SuiteDir

SETTINGS = {"max_steps": 20, "dev_items": 4}
BASE = {"t0": 0.0, "t1": 0.0, "t2": 0.0, "t3": 1.0}
CEILING = {"t0": 1.0, "t1": 1.0, "t2": 0.0, "t3": 1.0}
RETAINED = {"r0": 1.0, "r1": 1.0, "r2": 0.0, "r3": 1.0}


def sample_rows(task, split, scores):
    return [
        {"task": task, "split": split, "example_id": key, "sample": 0, "score": value,
         "outcome": "failed" if value is None else "correct" if value == 1.0 else "wrong"}
        for key, value in scores.items()
    ]  # fmt: skip


def anchored(suite):
    """Base, ceiling and base retention, as the workbench stores them; returns the references."""
    made = []
    for reading, scores, shared, task, split in (
        ("base", BASE, suite.shared("toy", "k"), "toy", "test"),
        ("ceiling", CEILING, suite.shared("toy", "k"), "toy", "test"),
        ("base", RETAINED, suite.shared("retention-keep", "k"), "keep", "test"),
    ):
        name = f"{reading}-test-s0" if task == "toy" else "base"
        shared.put(name, [{"measured": {}}, *sample_rows(task, split, scores)])
        made.append({"reading": reading, "shared": shared.path.name, "name": name})
    return made


def cell(method, *, seed=0, rate=1e-3, settings=SETTINGS, version=1, k=1):
    return {
        "suite": settings,
        "task": {"name": "toy", "version": version},
        "method": {"name": method, "k": k},
        "learning_rate": rate,
        "seed": seed,
    }


def begin(suite, config):
    name = f"toy--{config['method']['name']}--s{config['seed']}--{digest(config)}"
    return RunDir.open(suite.run(name), config, {})


def finished(suite, config, test, kept=RETAINED, *, protocol="p", parse=1.0):
    """A sealed run with these test scores and retention scores."""
    with begin(suite, config) as run:
        for metric, value in (("accuracy", 0.5), ("parse_rate", parse)):
            run.eval({"step": 10, "task": "toy", "split": "test", "metric": metric, "value": value,
                      "primary": metric == "accuracy", "n": 4, "n_unscored": 0, "final": True,
                      "protocol_hash": protocol})  # fmt: skip
        run.samples("test", sample_rows("toy", "test", test))
        run.samples("retention-keep", sample_rows("keep", "test", kept))
        run.samples("scores-toy-step_000000", [{"task": "toy", "split": "dev", "scores": []}])
        counters = {"tokens_written": 1234, "teacher_tokens_scored": 5678}
        run.seal({"chosen_step": 10, "anchors": anchored(suite), **counters})


@pytest.fixture
def suite(tmp_path):
    folder = SuiteDir(tmp_path / "toys")
    folder.merge({"name": "toys", "tasks": ["toy"], "methods": ["good"], "learning_rate": [1e-3],
                  "seeds": 1})  # fmt: skip
    return folder


GOOD = {"t0": 1.0, "t1": 0.0, "t2": 0.0, "t3": 1.0}


def only_row(suite):
    table = tables.headline(load(suite.path))
    assert len(table) == 1
    return table.iloc[0]


def test_a_row_stands_beside_base_ceiling_gap_and_retention(suite):
    finished(suite, cell("good"), GOOD, {**RETAINED, "r0": 0.0, "r1": 0.0}, parse=0.75)
    row = only_row(suite)
    assert row["plain"].value == 0.5
    assert row["base"].value == 0.25
    assert row["ceiling"].value == 0.75
    assert row["gap closed"].value == pytest.approx(0.5)
    assert row["parsed"] == 0.75
    assert row["keep before"].value == 0.75
    assert row["keep after"].value == 0.25
    assert row["keep change"].value == pytest.approx(-0.5)
    assert (row["state"], row["seeds"], row["steps"]) == ("done", 1, [10])
    assert (row["tokens written"], row["tokens scored"]) == (1234, 5678)


def test_the_text_says_percent_counts_and_one_seed(suite):
    finished(suite, cell("good"), GOOD, parse=0.75)
    text = tables.headline_text(suite.path)
    assert "one seed" in text and "±" not in text
    assert "50.0 [" in text and "1,234" in text and "75.0" in text
    assert "clustered by example, 2000 resamples" in text
    assert "One seed says nothing about the spread between trainings" in text


def test_seeds_are_averaged_by_example_before_they_are_compared(suite):
    finished(suite, cell("good", seed=0), GOOD)
    finished(suite, cell("good", seed=1), CEILING)
    row = only_row(suite)
    assert row["seeds"] == 2
    assert row["plain"].value == pytest.approx(0.625)
    assert row["plain"].n == 4
    assert "one seed" not in tables.headline_text(suite.path)


def test_a_failed_sample_is_in_no_mean(suite):
    finished(suite, cell("good"), {**GOOD, "t2": None})
    assert only_row(suite)["plain"].value == pytest.approx(2 / 3)


def test_a_failed_cell_prints_its_reason_and_hides_no_other(suite):
    finished(suite, cell("good"), GOOD)
    with begin(suite, cell("bad")) as run:  # it failed before its first score
        run.fail("the reactor is cold", "a traceback")
    text = tables.headline_text(suite.path)
    assert "failed: the reactor is cold" in text
    assert "50.0 [" in text


def test_a_planned_cell_that_was_never_begun_prints_not_run(suite):
    suite.merge({"methods": ["good", "late"]})
    finished(suite, cell("good"), GOOD)
    table = tables.headline(load(suite.path)).set_index("method")
    assert table.loc["late", "state"] == "not run"
    assert table.loc["good", "state"] == "done"
    assert "not run" in tables.headline_text(suite.path)


def test_missing_seeds_are_counted(suite):
    suite.merge({"seeds": 3})
    finished(suite, cell("good"), GOOD)
    with begin(suite, cell("good", seed=1)):
        pass
    assert only_row(suite)["state"] == "2 of 3 seeds missing (not finished)"


def test_rates_of_the_sweep_plan_only_the_sweeps_seeds(suite):
    suite.merge({"seeds": 3, "learning_rate": [3e-3], "sweep_seeds": 1,
                 "headline_learning_rate": 1e-3})  # fmt: skip
    finished(suite, cell("good", rate=3e-3), GOOD)
    table = tables.headline(load(suite.path)).set_index("learning_rate")
    assert table.loc[3e-3, "state"] == "done"
    assert table.loc[1e-3, "state"] == "3 of 3 seeds missing (not run)"


def test_a_folder_without_a_run_has_a_table_of_what_is_planned(suite):
    assert "not run" in tables.headline_text(suite.path)
    assert "No cell is done" in tables.headline_text(suite.path)


def test_a_folder_without_a_suite_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"no suite\.json.*opcd-bench run"):
        load(tmp_path)


def test_two_protocols_are_refused_with_a_run_of_each(suite):
    finished(suite, cell("good"), GOOD, protocol="one")
    finished(suite, cell("fine"), GOOD, protocol="two")
    with pytest.raises(StoreError, match="toy on test was measured under 2 protocols"):
        tables.headline(load(suite.path))


def test_cells_of_other_settings_are_refused_and_the_setting_named(suite):
    finished(suite, cell("good"), GOOD)
    finished(suite, cell("fine", settings={**SETTINGS, "max_steps": 50}), GOOD)
    with pytest.raises(StoreError, match=r"suite\.max_steps: 20 and 50"):
        tables.headline(load(suite.path))


def test_a_cell_run_twice_under_an_edited_method_is_refused(suite):
    finished(suite, cell("good", k=1), GOOD)
    finished(suite, cell("good", k=2), GOOD)
    with pytest.raises(StoreError, match="one cell run twice"):
        tables.headline(load(suite.path))


def test_the_detectable_difference_is_between_methods_at_one_rate(suite):
    """The largest over pairs: good and same are alike (0), each differs from far on two of four."""
    finished(suite, cell("good"), GOOD)
    finished(suite, cell("same"), GOOD)
    finished(suite, cell("far"), {"t0": 0.0, "t1": 1.0, "t2": 0.0, "t3": 1.0})
    finished(suite, cell("other", rate=1e-2), BASE)
    results = load(suite.path)
    # differences 1, -1, 0, 0: standard deviation sqrt(2/3), over four examples
    expected = 2.801585 * math.sqrt(2 / 3) / 2
    assert tables.detectable(results, "toy", 1e-3, "good") == pytest.approx(expected, rel=1e-5)
    text = tables.headline_text(suite.path)
    assert "between two methods that would be found with 80 % power" in text
    assert f"toy {100 * expected:.1f} points" in text


def test_the_detectable_difference_of_a_lone_method_is_to_the_base(suite):
    finished(suite, cell("good"), GOOD)
    expected = 2.801585 * 0.5 / 2  # differences 1, 0, 0, 0
    assert only_row(suite)["mde"] == pytest.approx(expected, rel=1e-5)
    assert "Smallest difference to the base" in tables.headline_text(suite.path)


def test_the_comparison_is_drawn_where_the_most_seeds_ran(suite):
    """A sweep's single seed at a harsh rate says nothing about the headline rate."""
    for method, scores in (("good", GOOD), ("same", GOOD)):
        for seed in range(2):
            finished(suite, cell(method, seed=seed), scores)
        finished(suite, cell(method, rate=1e-2), BASE if method == "good" else CEILING)
    results = load(suite.path)
    assert tables.detectable(results, "toy", 1e-3, "good") == 0.0
    assert math.isnan(tables.detectable(results, "toy", 1e-2, "good"))


@pytest.mark.parametrize("rule", ["dev", None])
def test_methods_meet_at_their_own_headline_rates_where_the_suite_chose_these_on_dev(suite, rule):
    suite.merge({"headline_learning_rate": rule})
    finished(suite, cell("good", rate=1e-3), GOOD)
    finished(suite, cell("far", rate=1e-2), CEILING)
    differs = 2.801585 * 0.5 / 2  # one of four, to the other method as to the base
    alone = tables.detectable(load(suite.path), "toy", 1e-2, "far")
    to_base = 2.801585 * math.sqrt(1 / 3) / 2  # the ceiling is above the base on two of four
    assert alone == pytest.approx(differs if rule == "dev" else to_base, rel=1e-5)


def test_methods_are_compared_over_the_seeds_that_both_ran(suite):
    """Both have two seeds, one of them in common, and on that one they are alike."""
    finished(suite, cell("good", seed=0), GOOD)
    finished(suite, cell("good", seed=1), BASE)
    finished(suite, cell("far", seed=0), GOOD)
    finished(suite, cell("far", seed=2), CEILING)
    assert tables.detectable(load(suite.path), "toy", 1e-3, "far") == 0.0
