"""Estimates against real runs: bounds hold, stored runs are told as they were, nothing is kept."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from toy import Toy, toy_suite
from transformers import dynamic_module_utils

from opcd_bench.errors import ConfigError, DataError, ModelError
from opcd_bench.experience import reflect
from opcd_bench.models import loading, prompts
from opcd_bench.progress import QuietReporter
from opcd_bench.runner import registry, suite_runner
from opcd_bench.runner.estimate import estimate, step_time
from opcd_bench.runner.estimate.workload import KINDS
from opcd_bench.runner.rounds import rounds
from opcd_bench.store.jsonl import read_rows
from opcd_bench.store.run_reader import DONE, RunReader
from opcd_bench.store.suite_dir import SuiteDir

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
    assert len(suite_dir.runs()) == 4
    return counted(suite_dir)


def counted(suite_dir: SuiteDir) -> dict[str, int]:
    """What the runs of one folder counted; all of them are sealed."""
    readers = [RunReader(path) for path in suite_dir.runs()]
    assert all(reader.sealed for reader in readers)
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
        read_rows(file)[0]["measured"]
        for folder in ("toy--*", "retention-*")
        for file in suite_dir.path.glob(f"shared/{folder}/*.jsonl.gz")
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
    suite_runner.run(suite, console=QuietReporter())
    real, after = counters(tmp_path), estimated(suite)
    assert real["told_written"] > 0
    for kind in KINDS:
        assert 0 < real[kind] <= getattr(before.at_most, kind), kind
    assert after.at_most == before.at_most
    for kind in ("written", "told_written", "teacher_scored", "trained"):
        assert getattr(after.expected, kind) == pytest.approx(real[kind], abs=1), kind
    took = [
        sum(row.get("seconds_trained", 0) for row in RunReader(path).read("timing"))
        for path in SuiteDir(tmp_path / "toy").runs()
    ]
    assert after.tasks[0].seconds.training == pytest.approx(sum(took))
    assert after.tasks[0].peak_seen > 0 and "stored" in after.source


def rounds_counters(suite_dir: Path) -> dict[str, int]:
    """What the rounds of a suite really counted, their contexts included."""
    folders = [path for path in suite_dir.glob("rounds/*/round_*") if path.is_dir()]
    assert len(folders) == 8, "two methods, two seeds, two rounds"
    found = dict.fromkeys(KINDS, 0)
    for folder in folders:
        for kind, count in counted(SuiteDir(folder)).items():
            found[kind] += count
    extracted = {}  # chains that begin alike share a folder
    for record in suite_dir.glob("rounds/*/round_*.json"):
        row = json.loads(record.read_text())
        extracted[row["experience"]] = row["tokens_attempted"] + row["tokens_reflected"]
    assert len(extracted) > 2
    found["written"] += sum(extracted.values())
    found["evaluated"] += sum(
        json.loads(line)["tokens"]
        for file in suite_dir.glob("experience/*/*/selected/scores-*/*.jsonl")
        for line in file.read_text().splitlines()
    )
    return found


def test_rounds_stay_below_the_bound(toy_registry, tiny_model_folder, tmp_path, monkeypatch):
    """A random model writes no lessons, so whatever it writes is taken for one."""
    monkeypatch.setattr(reflect, "items_of", lambda text, _: [f"An odd one: {text[:3]!r}."])
    suite = suite_of(
        tiny_model_folder, tmp_path, rounds=2, choose="last", retention=["told_other"],
        retention_items=2, eval_retention=False,
        max_steps=2, experience={"items": 4, "seeds": 2, "max_reflection_length": 8},
    )  # fmt: skip
    before = estimated(suite)
    summary = rounds.run(suite, console=QuietReporter())
    assert summary.done == summary.total
    real = rounds_counters(tmp_path / "toy")
    for kind in KINDS:
        assert 0 < real[kind] <= getattr(before.at_most, kind), kind


def test_runs_of_other_settings_say_nothing(toy_registry, tiny_model_folder, tmp_path):
    suite_runner.run(suite_of(tiny_model_folder, tmp_path), console=QuietReporter())
    assert estimated(suite_of(tiny_model_folder, tmp_path, learning_rate=5e-4)).expected is not None
    assert estimated(suite_of(tiny_model_folder, tmp_path, temperature=0.5)).expected is None


def test_an_interrupted_run_tells_its_steps_but_not_its_length(
    toy_registry, tiny_model_folder, tmp_path
):
    suite_runner.run(suite_of(tiny_model_folder, tmp_path), console=QuietReporter())
    reader = RunReader(SuiteDir(tmp_path / "toy").runs()[0])
    whole = step_time.pace_of([reader])
    assert whole.other_seconds is not None and whole.steps == 6
    assert set(whole.phases) == {"teacher", "student", "optimiser"}
    assert sum(whole.phases.values()) <= whole.seconds_trained
    events = (reader.path / "events.jsonl").read_text().splitlines()
    resumed = json.dumps({**json.loads(events[0]), "kind": "resumed"})
    (reader.path / DONE).unlink()
    (reader.path / "events.jsonl").write_text("\n".join([*events, resumed]) + "\n")
    reader = RunReader(reader.path)
    assert step_time.pace_of([reader]).other_seconds is None
    rows = reader.read("train")
    late = step_time.pace_of([reader], warm_up=2)
    assert late.steps == 4
    assert late.trained == pytest.approx(sum(row["tokens"] for row in rows[2:]) / 4)


@pytest.mark.usefixtures("only_played_episodes")
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
    monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("loaded"))
    found = estimated(suite_of(tiny_model_folder, tmp_path))
    assert found.model.parameters > 0
    lengths = found.tasks[0].lengths
    tokenizer = loading.tokenizer_of(str(tiny_model_folder))
    plain = [{"role": "user", "content": "Say train0."}]
    assert lengths.plain == len(prompts.prompt_ids(tokenizer, plain))
    told = Toy().context().tell(plain)
    assert lengths.told == len(prompts.prompt_ids(tokenizer, told)) > lengths.plain


def test_a_model_that_cannot_be_reached_leaves_the_tokens(toy_registry, tmp_path, monkeypatch):
    def unreachable(name, **_):
        raise ModelError(f"{name}: no connection")

    monkeypatch.setattr(loading, "config_of", unreachable)
    found = estimated(suite_of("nobody/nothing", tmp_path))
    assert found.model is None and found.at_most.trained > 0
    assert any("memory is not estimated" in note for note in found.notes)
    assert found.tasks[0].parts == ()


def of_its_own_code(tiny: Path, folder: Path) -> Path:
    """The tiny model as one that transformers does not know: its folder brings the classes."""
    shutil.copytree(tiny, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "odd",
        "architectures": ["OddForCausalLM"],
        "auto_map": {"AutoConfig": "odd.OddConfig", "AutoModelForCausalLM": "odd.OddForCausalLM"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "odd.py").write_text(
        "from transformers import Qwen3Config, Qwen3ForCausalLM\n\n\n"
        "class OddConfig(Qwen3Config):\n    model_type = 'odd'\n\n\n"
        "class OddForCausalLM(Qwen3ForCausalLM):\n    config_class = OddConfig\n"
    )
    return folder


def test_a_model_with_code_of_its_own_is_estimated_without_its_data(
    toy_registry, tiny_model_folder, tmp_path, monkeypatch
):
    """Where the data are not at hand, prompts may fill the window: the one that was read before."""

    def absent(*_):
        raise DataError("not here")

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(Toy, "examples", absent)
    folder = of_its_own_code(tiny_model_folder, tmp_path / "odd")
    refused = estimated(suite_of(folder, tmp_path))
    assert refused.model is None and any("trust_remote_code" in note for note in refused.notes)
    found = estimated(suite_of(folder, tmp_path, trust_remote_code=True))
    plain = estimated(suite_of(tiny_model_folder, tmp_path))
    assert found.model.parameters == plain.model.parameters
    assert found.tasks[0].lengths == plain.tasks[0].lengths
    assert found.tasks[0].lengths.plain == 2048 - 6


def test_prompts_are_as_long_as_thinking_makes_them(toy_registry, tiny_model_folder, tmp_path):
    folder = tmp_path / "thinks"
    shutil.copytree(tiny_model_folder, folder)
    template = folder / "chat_template.jinja"
    added = "{% if enable_thinking %}Think!{% endif %}"
    template.write_text(template.read_text() + added)
    off, on = (
        estimated(suite_of(folder, tmp_path, enable_thinking=thinking)).tasks[0].lengths
        for thinking in (False, True)
    )
    assert (on.plain - off.plain, on.told - off.told) == (6, 6)


def test_what_rounds_tell_may_be_longer_than_the_tasks_own_context(
    toy_registry, tiny_model_folder, tmp_path
):
    """And where it will go may be said before it is made."""
    made = {"experience": {"max_context_tokens": 300}, "context_placement": "system"}
    lengths = estimated(suite_of(tiny_model_folder, tmp_path, **made)).tasks[0].lengths
    assert lengths.told == lengths.plain + 300 and "max_context_tokens" in lengths.source


def test_what_a_run_refuses_an_estimate_refuses(toy_registry, tiny_model_folder, tmp_path):
    with pytest.raises(ConfigError, match="learns from a larger teacher"):
        estimated(suite_of(tiny_model_folder, tmp_path, methods=["opcd_larger"]))
