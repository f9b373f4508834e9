"""Whole cells with LoRA: resumed byte for byte, one copy of the weights, anchors as without it."""

from __future__ import annotations

import dataclasses
import importlib.util

import pytest
import torch
from test_cell import after_rows, in_child, run_toy
from toy import Toy, toy_suite, truth

from opcd_bench.distillation import trainer
from opcd_bench.distillation.checkpoint import ADAPTER, load_student
from opcd_bench.distillation.method import Teacher
from opcd_bench.errors import MissingPackage
from opcd_bench.evaluation import drift
from opcd_bench.evaluation.scores import Score
from opcd_bench.models import adapters, loading, saving
from opcd_bench.progress import QuietReporter
from opcd_bench.runner import grid, registry
from opcd_bench.runner.resources import Resources
from opcd_bench.store.checkpoints import MODEL
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SharedDir, SuiteDir

pytest.importorskip("peft", reason="LoRA needs peft: pip install 'opcd-bench[lora]'")

LORA = {"lora_rank": 4, "learning_rate": 1e-2}


@pytest.mark.parametrize("moment", [1, 3, 5])
def test_a_killed_run_ends_byte_identical(moment, tiny_model_folder, tmp_path, monkeypatch):
    whole = run_toy(toy_suite(tiny_model_folder, tmp_path / "whole", **LORA))
    assert RunReader(whole).sealed, (whole / "FAILED.json").read_text()
    suite = toy_suite(tiny_model_folder, tmp_path / "killed", **LORA)
    with monkeypatch.context() as patch:
        after_rows(patch, moment, torn=False)
        in_child(lambda: run_toy(suite) and None)
    assert truth(run_toy(suite)) == truth(whole)


def test_a_live_teacher_resumes_byte_identical(tiny_model_folder, tmp_path, monkeypatch):
    original = registry.method
    monkeypatch.setattr(
        registry, "method", lambda n: dataclasses.replace(original(n), teacher=Teacher("live"))
    )
    whole = run_toy(toy_suite(tiny_model_folder, tmp_path / "whole", **LORA))
    assert RunReader(whole).sealed, (whole / "FAILED.json").read_text()
    suite = toy_suite(tiny_model_folder, tmp_path / "killed", **LORA)
    with monkeypatch.context() as patch:
        after_rows(patch, 3, torn=False)
        in_child(lambda: run_toy(suite) and None)
    assert truth(run_toy(suite)) == truth(whole)


def test_student_and_teacher_are_one_module(tiny_model_folder, tmp_path):
    suite = toy_suite(tiny_model_folder, tmp_path, **LORA)
    bench = Resources(suite, SuiteDir(tmp_path / "toy"), QuietReporter())
    assert bench.models.fresh_student().model is bench.models.initial.model
    assert bench.models.identity["weights"] == saving.weights_hash(
        loading.load(str(tiny_model_folder), device="cpu").model
    )


def test_base_and_ceiling_are_those_of_a_run_without_lora(tiny_model_folder, tmp_path):
    """Scored after training too: the adapter is off for them."""
    found = []
    for name, settings in (("lora", LORA), ("whole", {})):
        path = run_toy(toy_suite(tiny_model_folder, tmp_path / name, **settings))
        reader = RunReader(path)
        assert reader.sealed, reader.failure()
        shared = path.parent / "shared"
        rows = {
            (a["reading"], a["name"]): SharedDir(shared / a["shared"]).file(a["name"])
            for a in reader.summary["anchors"]
        }
        found.append({key: file.read_bytes() for key, file in rows.items()})
    assert found[0].keys() == found[1].keys() and {key[0] for key in found[0]} == {
        "base",
        "ceiling",
    }
    assert found[0] == found[1]


def test_every_cell_begins_from_the_model_before_training(tiny_model_folder, tmp_path):
    """Two cells in one module: the second's first row is what it is when it runs alone."""
    methods = ["opcd_full", "sft_context"]
    run_toy(toy_suite(tiny_model_folder, tmp_path / "both", methods=methods, **LORA))
    alone = run_toy(toy_suite(tiny_model_folder, tmp_path / "alone", methods=methods[1:], **LORA))
    both = SuiteDir(tmp_path / "both/toy").run(alone.name)
    assert truth(both) == truth(alone)


def test_the_checkpoint_opens_as_a_student_of_its_own(tiny_model_folder, tmp_path):
    path = run_toy(toy_suite(tiny_model_folder, tmp_path / "first", choose="last", **LORA))
    checkpoint = RunReader(path).checkpoint_at(6).path
    assert (checkpoint / ADAPTER / "adapter_model.safetensors").is_file()
    again = run_toy(toy_suite(checkpoint / MODEL, tmp_path / "again", max_steps=2, **LORA))
    assert RunReader(again).sealed, (again / "FAILED.json").read_text()

    suite = toy_suite(tiny_model_folder, tmp_path / "first", choose="last", **LORA)
    bench = Resources(suite, SuiteDir(tmp_path / "first/toy"), QuietReporter())
    core = trainer.TrainingCore(bench.models.fresh_student(), suite, 1e-2)
    load_student(core, checkpoint)
    merged = loading.load(str(checkpoint / MODEL), device="cpu")
    ids = torch.arange(5, 30)[None]
    with torch.no_grad():
        theirs, ours = merged.model(input_ids=ids).logits, core.student.model(input_ids=ids).logits
    assert torch.allclose(theirs, ours, atol=1e-5)
    assert any(parameter.abs().max() > 0 for parameter in adapters.parameters(core.student)[1::2])


@pytest.mark.parametrize("on_the_way", [True, False])
def test_drift_and_the_bases_retention_are_the_bases_though_one_module_is_both(
    on_the_way, tiny_model_folder, tmp_path
):
    """While the adapter is merged to be scored, the module holds no base: nothing may take it."""
    asked = {"retention": ["ifeval_micro", "drift"], "retention_items": 4, "choose": "last"}
    asked["eval_retention"] = on_the_way
    path = run_toy(toy_suite(tiny_model_folder, tmp_path / "lora", **asked, **LORA))
    reader = RunReader(path)
    assert reader.sealed, (path / "FAILED.json").read_text()
    (last,) = (row for row in reader.read("evals") if row["final"] and row["metric"] == "kl")
    folder = reader.checkpoint_at(6).path / MODEL
    base, student = (loading.load(str(f), device="cpu") for f in (tiny_model_folder, folder))
    full = run_toy(toy_suite(tiny_model_folder, tmp_path / "full", **asked))
    stored = {}
    for run in (path, full):
        shared = SuiteDir(run.parent).all_shared()
        (nats,), (scores,) = (
            [one for one in shared if one.path.name.startswith(kind)]
            for kind in ("nats-drift", "retention-ifeval")
        )
        stored[run] = scores.get("base")
        own = drift.measure(base, student, Score.from_rows(nats.get("base")))
        if run == path:
            assert last["value"] == pytest.approx(own.metrics["kl"], rel=1e-3) and last["value"] > 0
    assert stored[path] == stored[full]


def test_seeds_draw_different_adapters_and_methods_the_same(tiny_model_folder, tmp_path):
    suite = toy_suite(tiny_model_folder, tmp_path, **LORA)
    bench = Resources(suite, SuiteDir(tmp_path / "toy"), QuietReporter())
    drawn = [adapters.parameters(bench.models.fresh_student(seed))[0].clone() for seed in (0, 1, 0)]
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize(
    ("settings", "extra"), [(LORA, "lora"), ({"optim": "adamw_8bit"}, "adam8bit")]
)
def test_a_package_that_is_not_there_is_told_before_the_model_is_loaded(
    settings, extra, tiny_model_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("loaded"))
    suite = toy_suite(tiny_model_folder, tmp_path, **settings)
    with pytest.raises(MissingPackage, match=rf"pip install 'opcd-bench\[{extra}\]'"):
        Resources(suite, SuiteDir(tmp_path / "toy"), QuietReporter())


def test_an_ema_teacher_of_an_adapter_resumes_byte_identical(
    tiny_model_folder, tmp_path, monkeypatch
):
    original = registry.method

    def method(name):
        return dataclasses.replace(original(name), teacher=Teacher("ema", rate=0.5))

    monkeypatch.setattr(registry, "method", method)
    settings = {**LORA, "dtype": "bfloat16"}
    whole = run_toy(toy_suite(tiny_model_folder, tmp_path / "whole", **settings))
    suite = toy_suite(tiny_model_folder, tmp_path / "killed", **settings)
    with monkeypatch.context() as patch:
        after_rows(patch, 5, torn=False)
        in_child(lambda: run_toy(suite) and None)
    assert truth(run_toy(suite)) == truth(whole)


def test_rank_and_layers_name_the_cell_and_full_training_keeps_its_name(
    tiny_model_folder, tmp_path
):
    def name(**values):
        suite = toy_suite(tiny_model_folder, tmp_path, **values)
        methods = {"opcd_full": registry.method("opcd_full")}
        return grid.cells(suite, methods, {"toy": Toy()})[0].hash10

    lora = [
        name(lora_rank=4), name(lora_rank=8), name(lora_rank=4, lora_alpha=8),
        name(lora_rank=4, lora_target_modules="q_proj"), name(),
    ]  # fmt: skip
    assert len(set(lora)) == 5
    assert name(trust_remote_code=True, attn_implementation="auto", optim="adamw") == name()


def test_the_scores_of_a_run_are_those_of_the_checkpoint_that_it_publishes(
    tiny_model_folder, tmp_path
):
    """In bfloat16, where merging rounds: the folder, opened without an adapter, replies alike."""
    settings = {"dtype": "bfloat16", "choose": "last"}
    suite = toy_suite(tiny_model_folder, tmp_path / "run", **settings, **LORA)
    path = run_toy(suite)
    reader = RunReader(path)
    assert reader.sealed, (path / "FAILED.json").read_text()
    folder = reader.checkpoint_at(6).path / MODEL
    plain = toy_suite(folder, tmp_path / "plain", **settings)
    bench = Resources(plain, SuiteDir(tmp_path / "plain/toy"), QuietReporter())
    task = Toy()
    again = bench.references.score(
        task, "test", bench.models.initial, bench.models.engine(bench.models.initial), 0, final=True
    )
    assert [dict(sample) for sample in again.samples] == reader.read("samples/test")
