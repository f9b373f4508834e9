"""Stored results become frames with known columns, whatever state the runs are in."""

import math

import numpy as np
import pytest
from report_store import BASE, GOOD, RETAINED, begin, cell, finished, sample_rows

from opcd_bench.report.analysis import load as loading
from opcd_bench.report.analysis.load import load
from opcd_bench.store.suite_dir import SuiteDir


@pytest.fixture
def suite(tmp_path):
    folder = SuiteDir(tmp_path / "toys")
    folder.merge({"name": "toys"})
    return folder


def test_a_suite_without_a_run_has_frames_with_their_columns(suite):
    results = load(suite.path)
    assert list(results.cells) == loading.CELLS
    assert list(results.evals) == loading.EVALS
    assert list(results.samples) == [*loading.CELL, *loading.SAMPLE]
    assert list(results.anchors) == ["reading", *loading.SAMPLE]
    assert list(results.trains) == loading.TRAINS
    assert list(results.steps) == loading.STEPS
    assert list(results.instructions) == loading.INSTRUCTIONS
    assert "value" in results.external and results.external.empty
    assert results.evals[results.evals["primary"]].empty, "a mask of no rows is still a mask"
    assert results.finals == {} and results.anchor("base", "toy", "test").empty


def test_a_run_that_is_not_finished_gives_its_rows_and_no_final_samples(suite):
    with begin(suite, cell("good")) as run:
        run.train({"step": 1, "divergence": 0.5, "learning_rate": 2e-4})
        run.eval({"step": 0, "task": "toy", "split": "dev", "metric": "accuracy", "value": None,
                  "primary": True, "n": 4, "n_unscored": 4, "protocol_hash": "p",
                  "final": False})  # fmt: skip
        scores = [{"task": "toy", "split": "dev", "scores": [1.0, None, 0.0]}]
        run.samples("scores-toy-step_000020", scores)
        run.samples("test", sample_rows("toy", "test", GOOD))
    results = load(suite.path)
    assert list(results.cells["state"]) == ["not finished"]
    assert math.isnan(results.cells.loc[0, "chosen_step"])
    assert len(results.evals) == 1 and math.isnan(results.evals.loc[0, "value"])
    assert results.samples.empty
    assert results.steps.loc[0, "step"] == 20 and results.steps.loc[0, "split"] == "dev"
    np.testing.assert_array_equal(results.steps.loc[0, "scores"], [1.0, math.nan, 0.0])
    assert results.steps.loc[0, "scores"].dtype == np.float64


def test_a_line_that_is_still_being_written_is_left_out(suite):
    with begin(suite, cell("good")) as run:
        run.train({"step": 1, "learning_rate": 1e-3})
        with (run.path / "train.jsonl").open("a") as file:
            file.write('{"step": 2, "lea')
    assert list(load(suite.path).trains["step"]) == [1]


def test_a_run_that_has_stored_no_environment_yet_can_be_read(suite):
    with begin(suite, cell("good")) as run:
        (run.path / "environment.json").unlink()
    with begin(suite, cell("fine"), {"device": "cpu"}):
        pass
    cells = load(suite.path).cells.set_index("method")
    assert cells.loc["good", "environment"] == {}
    assert cells.loc["fine", "environment"] == {"device": "cpu"}


def test_the_rate_of_a_step_does_not_take_the_place_of_the_cells(suite):
    """Warming up, the two differ; a frame grouped by the wrong one would tear a run apart."""
    with begin(suite, cell("good", rate=1e-3)) as run:
        run.train({"step": 1, "learning_rate": 1e-4, "grad_norm": 0.5})
    row = load(suite.path).trains.iloc[0]
    assert (row["learning_rate"], row["step_learning_rate"]) == (1e-3, 1e-4)
    assert row["grad_norm"] == 0.5


def test_time_and_memory_are_read_off_the_timed_steps(suite):
    finished(suite, cell("good"), GOOD, seconds=[4.0, 6.0])
    finished(suite, cell("fine"), GOOD)
    cells = load(suite.path).cells.set_index("method")
    assert cells.loc["good", "seconds"] == pytest.approx(10.0)
    assert cells.loc["good", "steps_per_second"] == pytest.approx(0.2)
    assert cells.loc["good", "peak_memory_bytes"] == 2 << 20
    assert math.isnan(cells.loc["fine", "seconds"])


def test_a_cell_carries_its_choices_and_what_it_counted(suite):
    finished(suite, cell("good", writer="teacher"), GOOD, tokens_written=0)
    row = load(suite.path).cells.iloc[0]
    assert row["description"]["writer"] == {"kind": "teacher"}
    assert row["settings"]["suite.max_steps"] == 20
    assert (row["tokens_written"], row["student_tokens_trained"]) == (0, 1234)
    assert (row["state"], row["chosen_step"]) == ("done", 10)


def test_final_samples_are_found_by_method_and_measure_and_step_scores_are_none_of_them(suite):
    finished(suite, cell("good"), {**GOOD, "t2": None})
    finished(suite, cell("good", seed=1), GOOD)
    results = load(suite.path)
    scores = results.finals["toy", "good", 1e-3]
    assert set(scores) == {"test", "keep"}
    assert len(scores["test"]) == 8 and set(scores["test"]["seed"]) == {0, 1}
    first = scores["test"][scores["test"]["seed"] == 0].set_index("example_id")["score"]
    assert math.isnan(first["t2"]) and first["t0"] == 1.0
    assert len(results.samples) == 16


def test_anchors_are_read_once_however_many_cells_name_them(suite):
    finished(suite, cell("good"), GOOD)
    finished(suite, cell("fine"), GOOD)
    results = load(suite.path)
    base = results.anchor("base", "toy", "test")
    assert dict(zip(base["example_id"], base["score"], strict=True)) == BASE
    kept = results.anchor("base", "toy", "keep")
    assert dict(zip(kept["example_id"], kept["score"], strict=True)) == RETAINED
    assert results.anchor("ceiling", "toy", "keep").empty


def test_instructions_are_those_of_the_method_and_of_the_base_before_it(suite):
    def rows(followed):
        return [
            {"task": "keep", "split": "retention", "example_id": "r0", "score": 0.0,
             "outcome": "wrong", "instruction_ids": ["a:one", "b:two"],
             "values": {"inst_level_strict_acc": followed,
                        "inst_level_loose_acc": [True, True]}}
        ]  # fmt: skip

    begun = rows([True, True])
    suite.shared("retention-keep", "k").put("base", [{"measured": {}}, *begun])
    finished(suite, cell("good"), GOOD, rows([False, True]))
    found = load(suite.path).instructions
    base, mine = found[found["method"].isna()], found[found["method"] == "good"]
    assert dict(zip(base["instruction"], base["followed"], strict=True)) == {
        "a:one": True, "b:two": True,
    }  # fmt: skip
    assert dict(zip(mine["instruction"], mine["followed"], strict=True)) == {
        "a:one": False, "b:two": True,
    }  # fmt: skip
    assert set(found["measured"]) == {"keep"} and found["followed"].dtype == bool
