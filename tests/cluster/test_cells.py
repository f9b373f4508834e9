"""Whole cells of two processes: what an interruption changes (nothing), and what they store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torchrun import two_processes
from toy import toy_suite
from transformers import AutoModelForCausalLM

from opcd_bench.distillation.checkpoint import ADAPTER, OPTIMISER
from opcd_bench.progress import QuietReporter
from opcd_bench.runner import registry, suite_runner
from opcd_bench.store.checkpoints import MODEL
from opcd_bench.store.run_reader import RunReader

pytestmark = pytest.mark.cluster

CASES = {
    "full": {"max_steps": 4},
    "adapter": {"max_steps": 4, "lora_rank": 4, "learning_rate": 1e-2},
    "bf16": {"max_steps": 4, "bf16": True},
    "live": {"max_steps": 4, "teacher": {"weights": "live"}},
    "average": {"max_steps": 4, "bf16": True, "teacher": {"weights": "ema", "rate": 0.5}},
}


@pytest.fixture(scope="module")
def cells(tiny_model_folder, tmp_path_factory):
    """What each case has stored: whole, and after a failure; and the folder of it."""
    folder = tmp_path_factory.mktemp("cells")
    asked = {"cases": CASES, "model": str(tiny_model_folder), "folder": str(folder)}
    (folder / "asked.json").write_text(json.dumps(asked))
    two_processes("cells.py", folder / "asked.json", folder / "found.json")
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_a_cell_that_failed_ends_byte_identical(name, cells):
    assert cells[name]["sealed"] == [True, True]
    whole, resumed = cells[name]["truths"]
    assert len(whole) > 2 and whole == resumed


def folders(cells, name):
    """The last checkpoint of a whole cell, and of the one that failed."""
    return [RunReader(Path(path)).checkpoint_at(4).path for path in cells[name]["paths"]]


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_opens_in_transformers_and_holds_whole_tensors(name, cells):
    (whole, resumed), loaded = folders(cells, name), []
    for folder in (whole, resumed):
        model = AutoModelForCausalLM.from_pretrained(folder / MODEL)
        assert type(model).__name__ == "Qwen3ForCausalLM"
        assert json.loads((folder / MODEL / "config.json").read_text())["architectures"] == [
            "Qwen3ForCausalLM"
        ]
        loaded.append(model.state_dict())
    for key, tensor in loaded[0].items():
        assert torch.equal(tensor, loaded[1][key]), key
    state = torch.load(whole / OPTIMISER, weights_only=True)
    moments = [own["exp_avg"] for own in state["optimiser"]["state"].values()]
    assert all(type(moment) is torch.Tensor for moment in moments)
    assert (whole / ADAPTER).is_dir() == (name == "adapter")
    if CASES[name].get("bf16"):
        assert {tensor.dtype for tensor in state["masters"]} == {torch.float32}
        assert {tensor.dtype for tensor in loaded[0].values()} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["full", "adapter"])
def test_rows_are_those_of_one_process_to_round_off(
    name, cells, tiny_model_folder, tmp_path, monkeypatch
):
    from toy import Toy

    monkeypatch.setattr(registry, "task", lambda *_, **__: Toy())
    suite_runner.run(
        toy_suite(tiny_model_folder, tmp_path, choose="last", **CASES[name]),
        console=QuietReporter(),
    )
    (alone,) = (tmp_path / "toy").glob("toy--*")
    theirs = [json.loads(line) for line in cells[name]["truths"][0]["train.jsonl.gz"].splitlines()]
    for own, row in zip(RunReader(alone).read("train"), theirs, strict=True):
        for key in ("replies", "tokens", "tokens_written", "written_accuracy", "eos_rate"):
            assert row[key] == own[key], key
        for key in ("divergence", "grad_norm", "reverse_kl"):
            assert row[key] == pytest.approx(own[key], rel=1e-3), key
