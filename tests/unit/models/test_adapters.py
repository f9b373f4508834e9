"""LoRA: one copy of the weights, read with the adapter and without; merged, saved, taken up."""

from __future__ import annotations

import builtins
import importlib.util
import json

import pytest
import torch
from fixtures import frozen, tiny_model, tiny_tokenizer

from opcd_bench.config.suite import make_suite
from opcd_bench.distillation import scoring
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.trainer import TrainingCore, trained
from opcd_bench.errors import MissingPackage, ModelError, StoreError
from opcd_bench.models import adapters, loading, saving
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.loading import assemble
from opcd_bench.rollout.engine import Request, Sampling
from opcd_bench.rollout.hf import HFEngine

pytest.importorskip("peft", reason="LoRA needs peft: pip install 'opcd-bench[lora]'")

IDS = torch.arange(5, 40)[None]
PAIRS = [
    Pair("a", 0, (5, 6, 7), (9, 8, 5, 6, 7), (20, 21, 22)),
    Pair("b", 0, (5, 9), (9, 8, 5, 9), (30, 31)),
]


def attached(loaded: LoadedModel, **settings) -> LoadedModel:
    values = {"rank": 4, "alpha": 8, "targets": "all-linear", "seed": 1}
    return adapters.attach(loaded, **{**values, **settings})


def stirred(student: LoadedModel) -> LoadedModel:
    """The student with an adapter that says something."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapters.parameters(student):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return student


@torch.no_grad()
def logits(loaded: LoadedModel) -> torch.Tensor:
    with adapters.active(loaded):
        return loaded.model(input_ids=IDS, use_cache=False).logits


def suite(**values):
    base = {"methods": "opcd", "tasks": "rule_math", "lora_rank": 4, "max_steps": 4}
    return make_suite({**base, **values}, "test")


def test_off_it_is_the_model_before_training_to_the_last_bit(tiny_loaded):
    first = logits(tiny_loaded)
    student = attached(tiny_loaded)
    assert torch.equal(logits(student), first), "an adapter that is not trained yet adds nothing"
    stirred(student)
    assert (logits(student) - first).abs().max() > 0.1
    assert torch.equal(logits(adapters.before(student)), first)


def test_readings_nest_and_leave_the_adapter_on_and_trainable(tiny_loaded):
    student = stirred(attached(tiny_loaded))
    on, off = logits(student), logits(adapters.before(student))
    with adapters.active(adapters.before(student)):
        assert torch.equal(student.model(input_ids=IDS).logits, off)
        with adapters.active(student):
            assert torch.equal(student.model(input_ids=IDS).logits, on)
        assert torch.equal(student.model(input_ids=IDS).logits, off)
    assert torch.equal(student.model(input_ids=IDS).logits, on)
    assert all(parameter.requires_grad for parameter in adapters.parameters(student))


def test_an_error_within_a_reading_puts_the_adapter_back_on(tiny_loaded):
    student = stirred(attached(tiny_loaded))
    with pytest.raises(ZeroDivisionError), adapters.active(adapters.before(student)):
        1 / 0  # noqa: B018
    assert not student.adapter.layers[0].disable_adapters


def test_scoring_and_writing_go_by_the_reading(tiny_loaded):
    student = stirred(attached(tiny_loaded))
    before = adapters.before(student)
    pristine = assemble("again", tiny_model(), tiny_tokenizer())
    plain = [
        scoring.hidden_states(m, [(5, 6)], [(7, 8, 9)]).states_NH
        for m in (before, pristine, student)
    ]
    assert torch.equal(plain[0], plain[1])
    assert not torch.allclose(plain[1], plain[2], atol=1e-2)
    request, how = [Request((5, 6, 7), 1)], Sampling(temperature=0.0, max_completion_length=8)
    replies = [HFEngine(m).generate(request, how)[0].ids for m in (before, student)]
    assert replies[0] == HFEngine(pristine).generate(request, how)[0].ids != replies[1]


def test_the_adapter_alone_reaches_the_optimiser_and_a_step_moves_no_base_weight(tiny_loaded):
    student = attached(tiny_loaded)
    base = {n: p.clone() for n, p in student.model.named_parameters() if ".lora_" not in n}
    core = TrainingCore(student, suite(), 1e-2)
    held = {id(p) for group in core.optimiser.param_groups for p in group["params"]}
    assert (
        held == {id(p) for p in trained(student)} == {id(p) for p in adapters.parameters(student)}
    )
    first = [p.detach().clone() for p in adapters.parameters(student)]
    for _ in range(2):  # the first step moves B, which is 0, and only then has A a gradient
        report = core.step(PAIRS, named("rkl_full"), frozen(adapters.before(student), core))
    assert report.grad_norm > 0
    now = dict(student.model.named_parameters())
    assert all(torch.equal(now[name], kept) for name, kept in base.items())
    assert all(
        not torch.equal(a, b) for a, b in zip(first, adapters.parameters(student), strict=True)
    )


def test_the_teacher_with_the_adapter_off_is_a_frozen_copy_of_the_model(tiny_loaded):
    """One step of one copy of the weights has the gradient that two copies have."""
    norms = []
    for shared in (True, False):
        student = stirred(attached(assemble("one", tiny_model(), tiny_tokenizer())))
        other = loading.freeze(assemble("two", tiny_model(), tiny_tokenizer()))
        core = TrainingCore(student, suite(), 1e-3)
        teacher = adapters.before(student) if shared else other
        norms.append(core.step(PAIRS, named("rkl_full"), frozen(teacher, core)).grad_norm)
    assert norms[0] == norms[1] > 0


def test_a_live_teacher_reads_with_the_adapter_on(tiny_loaded):
    student = stirred(attached(tiny_loaded))
    same = [Pair(p.example_id, 0, p.plain_ids, p.plain_ids, p.reply_ids) for p in PAIRS]
    core = TrainingCore(student, suite(), 1e-3)
    assert core.step(same, named("rkl_full"), frozen(student, core)).divergence < 1e-6
    assert (
        core.step(same, named("rkl_full"), frozen(adapters.before(student), core)).divergence > 0.01
    )


def test_gradient_checkpointing_changes_no_gradient(tiny_loaded):
    norms = []
    for checkpointing in (False, True):
        student = stirred(attached(assemble("one", tiny_model(), tiny_tokenizer())))
        core = TrainingCore(student, suite(gradient_checkpointing=checkpointing), 1e-3)
        teacher = adapters.before(student)
        norms.append(core.step(PAIRS, named("rkl_full"), frozen(teacher, core)).grad_norm)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4) and norms[0] > 0


def test_merged_weights_open_without_peft_and_give_the_adapters_logits(
    tiny_loaded, tmp_path, monkeypatch
):
    student = stirred(attached(tiny_loaded))
    saving.save(student, tmp_path / "model")
    original = builtins.__import__

    def without_peft(name, *args, **kwargs):
        assert name.split(".")[0] != "peft"
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_peft)
    again = loading.load(str(tmp_path / "model"), device="cpu")
    assert type(again.model) is type(student.model)
    assert again.eos_ids == student.eos_ids
    assert torch.allclose(logits(again), logits(student), atol=1e-5)
    assert {n: p.shape for n, p in again.model.named_parameters()} == {
        n: p.shape for n, p in tiny_model().named_parameters()
    }
    assert not list((tmp_path / "model").glob("adapter*"))


def test_weights_of_the_reading_before_training_are_the_base_weights(tiny_loaded):
    student = stirred(attached(tiny_loaded))
    found, plain = adapters.weights(adapters.before(student)), tiny_model().state_dict()
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[name], plain[name]) for name in plain)
    merged = adapters.weights(student)
    changed = {name for name in plain if not torch.equal(merged[name], plain[name])}
    assert len(changed) == len(student.adapter.layers)


def test_the_stored_adapter_is_peft_s_own_format(tiny_loaded, tiny_model_folder, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    student = stirred(attached(tiny_loaded))
    adapters.save(student, tmp_path / "adapter")
    settings = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["lora_dropout"]) == (4, 8, 0.0)
    base = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        assert torch.equal(theirs(input_ids=IDS).logits, logits(student))


def test_a_stored_adapter_comes_back_to_the_last_bit(tiny_loaded, tmp_path):
    student = stirred(attached(tiny_loaded))
    kept = [p.detach().clone() for p in adapters.parameters(student)]
    adapters.save(student, tmp_path / "adapter")
    adapters.reset(student, 7)
    adapters.load(student, tmp_path / "adapter")
    assert all(torch.equal(a, b) for a, b in zip(kept, adapters.parameters(student), strict=True))
    with pytest.raises(StoreError, match="already exists"):
        adapters.save(student, tmp_path / "adapter")


def test_another_runs_checkpoint_is_refused(tiny_loaded, tmp_path):
    other = attached(assemble("other", tiny_model(), tiny_tokenizer()), rank=2)
    adapters.save(other, tmp_path / "two")
    student = attached(tiny_loaded)
    with pytest.raises(StoreError, match="another rank"):
        adapters.load(student, tmp_path / "two")
    with pytest.raises(StoreError, match="trained all weights"):
        adapters.load(student, tmp_path / "nowhere")


def test_the_seed_fixes_the_adapter_and_torch_s_random_state_is_left_alone(tiny_loaded):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    student = attached(tiny_loaded, seed=5)
    assert torch.equal(torch.rand(2), expected)
    first = [p.detach().clone() for p in adapters.parameters(student)]
    stirred(student)
    adapters.reset(student, 5)
    assert all(torch.equal(a, b) for a, b in zip(first, adapters.parameters(student), strict=True))
    adapters.reset(student, 6)
    assert not torch.equal(first[0], adapters.parameters(student)[0])
    assert all((p == 0).all() for p in adapters.parameters(student)[1::2]), "B is 0"


def test_adapters_of_16_bit_weights_are_float32(tiny_model_folder):
    half = loading.load(str(tiny_model_folder), device="cpu", dtype="bfloat16")
    student = attached(half)
    assert {p.dtype for p in adapters.parameters(student)} == {torch.float32}
    assert logits(stirred(student)).dtype == torch.bfloat16
    assert {t.dtype for t in adapters.weights(student).values()} == {torch.bfloat16}


@pytest.mark.parametrize(("targets", "count"), [("q_proj,v_proj", 4), ("down_proj", 2)])
def test_named_layers_alone_are_adapted(targets, count, tiny_loaded):
    assert len(attached(tiny_loaded, targets=targets).adapter.layers) == count


@pytest.mark.parametrize("targets", ["q_proj,nose", "lm_head", "embed_tokens", ""])
def test_a_layer_that_cannot_be_adapted_is_named_with_those_that_can(targets, tiny_loaded):
    with pytest.raises(ModelError, match=r"no layer .* to adapt; it has down_proj, gate_proj"):
        attached(tiny_loaded, targets=targets)


def test_without_peft_it_says_what_to_type(tiny_loaded, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"pip install 'opcd-bench\[lora\]'"):
        attached(tiny_loaded)
