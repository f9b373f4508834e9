"""The built-in model through the whole loop: told it knows, plain it guesses, trained it learns."""

from __future__ import annotations

from pathlib import Path

import pytest

from opcd_bench.config.suite import Suite, make_suite
from opcd_bench.progress import QuietReporter
from opcd_bench.report.tables.stored import text_of
from opcd_bench.runner import grid, registry, suite_runner
from opcd_bench.runner.plan import plan
from opcd_bench.runner.resources import Resources
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SuiteDir


def small(output: Path, **values) -> Suite:
    base = {
        "name": "alive",
        "methods": ["opcd", "control_null"],
        "tasks": ["rule_choice"],
        "output_dir": str(output),
        "learning_rate": 1e-3,
        "max_steps": 16,
        "batch_size": 24,
        "eval_steps": 16,
        "max_completion_length": 8,
        "dev_items": 48,
        "test_items": 48,
        "retention": ["ifeval_micro"],
        "retention_items": 48,
        "keep_checkpoints": "none",
        "threads": 1,
    }
    return make_suite({**base, **values}, "a test")


@pytest.fixture(scope="module")
def alive(tmp_path_factory) -> dict[str, RunReader]:
    """The runs of a method and of the null control, by method."""
    suite = small(tmp_path_factory.mktemp("alive"))
    summary = suite_runner.run(suite, console=QuietReporter())
    assert summary.failed == 0, text_of(summary.suite_dir, chained=False)
    runs = [RunReader(path) for path in SuiteDir(summary.suite_dir).runs()]
    return {run.config["method"]["name"]: run for run in runs}


def dev(run: RunReader) -> dict[int, float]:
    rows = [r for r in run.read("evals") if r["split"] == "dev" and r["primary"]]
    return {row["step"]: row["value"] for row in rows}


@pytest.mark.parametrize("name", ["rule_math", "frozen_lake"])
def test_told_it_knows_and_plain_it_can_only_guess(name, tmp_path):
    task = registry.task(name)
    long = small(tmp_path, tasks=[name], max_completion_length=192)
    bench = Resources(long, SuiteDir(tmp_path / "alive"), QuietReporter())
    engine = bench.models.engine(bench.models.initial)
    told = bench.references.score(task, "dev", bench.models.initial, engine, 0, told=True).metrics[
        "accuracy"
    ]
    plain = bench.references.score(task, "dev", bench.models.initial, engine, 0).metrics["accuracy"]
    assert told > plain + 0.4


def test_distillation_closes_most_of_the_gap(alive):
    scores = dev(alive["opcd"])
    assert scores[16] > scores[0] + 0.35


def test_a_teacher_that_is_told_nothing_moves_nothing(alive):
    scores = dev(alive["control_null"])
    assert abs(scores[16] - scores[0]) <= 0.1
    rows = alive["control_null"].read("train")
    assert max(row["reverse_kl"] for row in rows) < 5e-2


def test_the_sampler_and_the_trainer_read_the_same_probabilities(alive):
    """O-28 on the real path: log-probs of the written tokens agree to numeric noise."""
    for run in alive.values():
        assert max(row["sampler_trainer_gap"] for row in run.read("train")) < 1e-3


def test_retention_starts_with_room_on_both_sides(alive):
    rows = alive["opcd"].read("evals")
    base = next(r["value"] for r in rows if r["task"] == "ifeval_micro" and r["primary"])
    assert 0.4 < base < 0.95


def test_every_cell_of_the_quick_suite_can_be_planned():
    suite = registry.suite("quick")
    planned = plan(suite)
    assert len(grid.cells(suite, planned.methods, planned.tasks)) == 4
