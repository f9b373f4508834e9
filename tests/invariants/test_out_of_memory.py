"""A GPU out of memory in a cell: the knob is named, the cell resumable, the grid goes on."""

from __future__ import annotations

import re

import pytest
import torch
from test_cell import run_toy
from toy import toy_suite, truth

from opcd_bench.cli import settings
from opcd_bench.distillation import replies
from opcd_bench.distillation.trainer import TrainingCore
from opcd_bench.errors import CellFailed, ModelError
from opcd_bench.models import loading
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.runner.models import SuiteModels
from opcd_bench.runner.out_of_memory import explain_out_of_memory
from opcd_bench.runner.references import References
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SuiteDir

OOM = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def at_call(monkeypatch, owner, name: str, n: int) -> None:
    """Out of memory at the n-th call, and at no other."""
    original, count = getattr(owner, name), [0]

    def call(*args, **kwargs):
        count[0] += 1
        if count[0] == n:
            raise OOM
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


PHASES = {
    "loading": ((SuiteModels, "fresh_student", 1), "while loading the model: --set lora_rank=16"),
    "writing": (
        (replies, "sample_replies", 3),
        "while generating responses: lower rollout_batch_size",
    ),
    "training": ((TrainingCore, "_accumulate", 3), "while training: lower micro_batch_size"),
    "scoring": ((References, "score", 3), "while evaluating: lower rollout_batch_size"),
}


@pytest.mark.parametrize("phase", PHASES)
def test_the_knob_is_named_the_grid_goes_on_and_the_cell_is_resumed(
    phase, tiny_model_folder, tmp_path, monkeypatch
):
    (owner, name, n), told = PHASES[phase]
    settings = {"methods": ["opcd_full", "opcd_tail"]}
    whole = run_toy(toy_suite(tiny_model_folder, tmp_path / "whole", **settings))
    suite = toy_suite(tiny_model_folder, tmp_path / "short", **settings)
    with monkeypatch.context() as patch:
        at_call(patch, owner, name, n)
        path = run_toy(suite)
    reader = RunReader(path)
    assert reader.state == "failed"
    reason = reader.failure()["reason"]
    assert told in reason and "Tried to allocate 2.00 GiB" in reason and "CUDA" in reason
    others = [p for p in SuiteDir(tmp_path / "short/toy").runs() if p != path]
    assert [RunReader(p).sealed for p in others] == [True]
    run_toy(suite)
    assert reader.sealed
    assert truth(path) == truth(whole)


def test_writing_through_the_engine_is_where_a_rollout_runs_out(
    tiny_model_folder, tmp_path, monkeypatch
):
    at_call(monkeypatch, HFEngine, "generate", 3)
    path = run_toy(toy_suite(tiny_model_folder, tmp_path, rollout_batch_size=40))
    assert "--set rollout_batch_size=20" in RunReader(path).failure()["reason"]


def knobs(tmp_path, **values) -> str:
    suite = toy_suite(tmp_path, tmp_path, micro_batch_size=8, **values)
    with pytest.raises(CellFailed) as caught, explain_out_of_memory("training", suite):
        raise OOM
    return str(caught.value)


def test_a_knob_that_is_turned_already_is_not_named_again(tmp_path):
    first = knobs(tmp_path)
    for knob in ("micro_batch_size=4", "gradient_checkpointing", "lora_rank=16", "adamw_8bit"):
        assert knob in first
    second = knobs(tmp_path, gradient_checkpointing=True, lora_rank=8)
    assert "micro_batch_size=4" in second and "dtype=bfloat16" in second
    for knob in ("gradient_checkpointing", "lora_rank", "adamw_8bit"):
        assert knob not in second


def told(phase, tmp_path, **values) -> str:
    suite = toy_suite(tmp_path, tmp_path, **values)
    with pytest.raises(CellFailed) as caught, explain_out_of_memory(phase, suite):
        raise OOM
    return str(caught.value)


@pytest.mark.parametrize("phase", ["writing", "scoring"])
def test_where_vllm_writes_its_own_options_are_the_knobs(phase, tmp_path):
    local = told(phase, tmp_path, engine="vllm")
    assert "max_num_seqs" in local and "which is 0.4" in local
    assert "{gpu_memory_utilization = 0.3}" in local and "rollout_batch_size" not in local
    served = told(phase, tmp_path, engine="vllm", vllm_url="http://here:8000")
    assert "http://here:8000 with a smaller --gpu-memory-utilization" in served
    assert "rollout_batch_size" not in served and "vllm_options" not in served


def test_what_vllm_keeps_is_named_in_training_too_with_options_that_set_takes(tmp_path):
    options = {"gpu_memory_utilization": 0.6, "enforce_eager": True, "hf_token": "x", "c": {"d": 1}}
    for engine in ("engine", "teacher_engine"):
        reason = told("training", tmp_path, vllm_options=options, **{engine: "vllm"})
        assert "micro_batch_size=16" in reason and "which is 0.6" in reason
        typed = re.search(r"--set '(vllm_options=[^']*)'", reason)[1]
        lower = {**options, "gpu_memory_utilization": 0.45}
        assert settings.assigned([typed]) == {"vllm_options": lower}
    elsewhere = {"teacher_engine": "vllm", "teacher_url": "http://there:8000"}
    assert "vLLM" not in told("training", tmp_path, **elsewhere)


@pytest.mark.parametrize("phase", ["loading", "writing", "training", "scoring"])
def test_processes_that_share_the_gpu_are_named_first(phase, tmp_path):
    said = PHASES[phase][1].partition(":")[0]
    assert f"{said}: lower jobs, which is 4" in told(phase, tmp_path, jobs=4)
    assert "--jobs 2" in told(phase, tmp_path, jobs=4)
    assert "jobs" not in told(phase, tmp_path)


def test_other_errors_pass_through_as_they_are(tmp_path):
    with (
        pytest.raises(ValueError, match="no memory matter"),
        explain_out_of_memory("training", toy_suite(tmp_path, tmp_path)),
    ):
        raise ValueError("no memory matter")


def test_a_model_that_does_not_fit_says_what_would(tiny_model_folder, monkeypatch):
    at_call(monkeypatch, torch.nn.Module, "to", 1)
    with pytest.raises(ModelError, match=r"does not fit into the memory of cpu.*lora_rank = 16"):
        loading.load(str(tiny_model_folder), device="cpu")
