"""Estimates against real runs: bounds hold, stored runs are told as they were, nothing is kept."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from toy import Toy, toy_suite

from opcd_bench import estimate, models, pace, registry, runner
from opcd_bench.errors import ConfigError
from opcd_bench.progress import QuietReporter
from opcd_bench.run_reader import RunReader
from opcd_bench.store import SuiteDir
from opcd_bench.workload import KINDS

METHODS = ["sft_context", "opcd_full"]


@pytest.fixture
def toy_registry(monkeypatch):
    monkeypatch.setattr(registry, "task", lambda *_, **__: Toy())


def suite_of(folder: Path, output: Path, **values):
    settings = {"methods": METHODS, "seeds": 2, "dev_items": 4, "test_items": 5}
    return toy_suite(folder, output, **{**settings, **values})


def estimated(suite, measure=0):
    return estimate.estimate(suite, measure=measure, console=QuietReporter())


def counters(output: Path) -> dict[str, int]:
    """What the runs below a folder really counted, told replies and evaluations included."""
    suite_dir = SuiteDir(output / "toy")
    readers = [RunReader(path) for path in suite_dir.runs()]
    assert len(readers) == 4 and all(reader.sealed for reader in readers)
    told = [
        len(turn["ids"])
        for file in suite_dir.path.glob("shared/told-*/step_*.jsonl")
        for line in file.read_text().splitlines()
        for turn in json.loads(line)["turns"]
    ]
    scored = [
        row["value"] * row["n"]
        for reader in readers
        for row in reader.read("evals")
        if row["metric"] == "reply_tokens" and (row["step"] > 0 or row["final"])
    ]
    anchors = [
        json.loads(file.read_text().splitlines()[0])["measured"]
        for file in suite_dir.path.glob("shared/toy--*/*.jsonl")
    ]
    scored += [anchor["metrics"]["reply_tokens"] * anchor["n"] for anchor in anchors]
    return {
        "written": sum(reader.summary["tokens_written"] for reader in readers),
        "told_written": sum(told),
        "teacher_scored": sum(reader.summary["teacher_tokens_scored"] for reader in readers),
        "trained": sum(reader.summary["student_tokens_trained"] for reader in readers),
        "evaluated": round(sum(scored)),
    }


def test_a_real_run_stays_below_the_bound_and_is_expected_as_it_was(
    toy_registry, tiny_model_folder, tmp_path
):
    suite = suite_of(tiny_model_folder, tmp_path)
    before = estimated(suite)
    assert before.expected is None and before.seconds is None and before.source == ""
    runner.run(suite, console=QuietReporter())
    real, after = counters(tmp_path), estimated(suite)
    assert real["told_written"] > 0
    for kind in KINDS:
        assert 0 < real[kind] <= getattr(before.at_most, kind), kind
    assert after.at_most == before.at_most
    for kind in ("written", "told_written", "teacher_scored", "trained"):
        assert getattr(after.expected, kind) == pytest.approx(real[kind], abs=1), kind
    took = [
        sum(row["seconds_trained"] for row in RunReader(path).read("timing"))
        for path in SuiteDir(tmp_path / "toy").runs()
    ]
    assert after.tasks[0].seconds.training == pytest.approx(sum(took))
    assert after.tasks[0].peak_seen > 0 and "stored" in after.source


def test_runs_of_other_settings_say_nothing(toy_registry, tiny_model_folder, tmp_path):
    runner.run(suite_of(tiny_model_folder, tmp_path), console=QuietReporter())
    assert estimated(suite_of(tiny_model_folder, tmp_path, learning_rate=5e-4)).expected is not None
    assert estimated(suite_of(tiny_model_folder, tmp_path, temperature=0.5)).expected is None


def test_an_interrupted_run_tells_its_steps_but_not_its_length(
    toy_registry, tiny_model_folder, tmp_path
):
    runner.run(suite_of(tiny_model_folder, tmp_path), console=QuietReporter())
    reader = RunReader(SuiteDir(tmp_path / "toy").runs()[0])
    whole = pace.pace_of([reader])
    assert whole.other_seconds is not None and whole.steps == 6
    assert set(whole.phases) == {"teacher", "student", "optimiser"}
    assert sum(whole.phases.values()) <= whole.seconds_trained
    events = (reader.path / "events.jsonl").read_text().splitlines()
    resumed = json.dumps({**json.loads(events[0]), "kind": "resumed"})
    (reader.path / "events.jsonl").write_text("\n".join([*events, resumed]) + "\n")
    assert pace.pace_of([reader]).other_seconds is None
    rows = reader.read("train")
    late = pace.pace_of([reader], warm_up=2)
    assert late.steps == 4
    assert late.trained == pytest.approx(sum(row["tokens"] for row in rows[2:]) / 4)


def test_measuring_takes_real_steps_and_keeps_nothing(
    toy_registry, tiny_model_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "scratch").mkdir()
    opened: list[str] = []
    task = Toy(lambda split, _: opened.append(split))
    monkeypatch.setattr(registry, "task", lambda *_, **__: task)
    suite = suite_of(tiny_model_folder, tmp_path / "out")
    found = estimated(suite, measure=2)
    assert found.seconds > 0 and "2 steps" in found.source
    assert 0 < found.expected.trained <= found.at_most.trained
    # six to see how long prompts are; three steps of each: opcd's replies, the told teacher's
    assert opened.count("train") == 6 + 2 * 3 * suite.batch_size
    assert not {"dev", "test"} & set(opened), "nothing is scored"
    assert os.listdir(tmp_path / "scratch") == [] and not (tmp_path / "out").exists()


def test_without_measuring_no_weight_is_loaded(
    toy_registry, tiny_model_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(models, "load", lambda *_, **__: pytest.fail("loaded"))
    found = estimated(suite_of(tiny_model_folder, tmp_path))
    assert found.model.parameters > 0
    lengths = found.tasks[0].lengths
    tokenizer = models.tokenizer_of(str(tiny_model_folder))
    plain = [{"role": "user", "content": "Say train0."}]
    assert lengths.plain == len(models.prompt_ids(tokenizer, plain))
    told = Toy().context().tell(plain)
    assert lengths.told == len(models.prompt_ids(tokenizer, told)) > lengths.plain


def test_a_model_that_cannot_be_reached_leaves_the_tokens(toy_registry, tmp_path):
    found = estimated(suite_of(tmp_path / "nowhere", tmp_path))
    assert found.model is None and found.at_most.trained > 0
    assert any("memory is not told" in note for note in found.notes)
    assert found.tasks[0].parts == ()


def test_what_a_run_refuses_an_estimate_refuses(toy_registry, tiny_model_folder, tmp_path):
    with pytest.raises(ConfigError, match="learns from a larger teacher"):
        estimated(suite_of(tiny_model_folder, tmp_path, methods=["opcd_larger"]))
