"""The optimiser: AdamW as the suite says, 8-bit moments where bitsandbytes is, bf16 weights."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import warnings

import pytest
import torch
from fixtures import frozen
from transformers import PreTrainedModel

from opcd_bench.config.suite import make_suite
from opcd_bench.distillation import checkpoint
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.optimiser import EIGHT_BIT_FROM, optimiser
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.teachers.local import NoTeacher
from opcd_bench.distillation.trainer import TrainingCore
from opcd_bench.errors import MissingPackage
from opcd_bench.models import loading
from opcd_bench.models.loaded import LoadedModel

HAS_BNB = importlib.util.find_spec("bitsandbytes") is not None
needs_bnb = pytest.mark.skipif(
    not HAS_BNB, reason="8-bit Adam needs bitsandbytes: pip install 'opcd-bench[adam8bit]'"
)
PAIRS = [
    Pair("a", 0, (5, 6, 7), (9, 8, 5, 6, 7), (20, 21, 22)),
    Pair("b", 0, (5, 9), (9, 8, 5, 9), (30, 31)),
]


def suite(**values):
    base = {"methods": "opcd", "tasks": "rule_math", "max_steps": 4}
    return make_suite({**base, **values}, "test")


def student(loaded: LoadedModel) -> LoadedModel:
    return dataclasses.replace(loaded, model=copy.deepcopy(loaded.model))


def trained(core: TrainingCore, teacher: LoadedModel, steps: int) -> list[float]:
    return [
        core.step(PAIRS, named("rkl_full"), frozen(teacher, core)).divergence for _ in range(steps)
    ]


def weights(core: TrainingCore) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in core.parameters]


def test_adamw_has_the_suites_settings():
    parameter = torch.nn.Parameter(torch.ones(3))
    made = optimiser([parameter], suite(adam_beta2=0.95, weight_decay=0.1), 2e-3)
    group = made.param_groups[0]
    assert (group["lr"], group["betas"], group["weight_decay"]) == (2e-3, (0.9, 0.95), 0.1)
    assert type(made) is torch.optim.AdamW


def test_without_bitsandbytes_it_says_what_to_type(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"pip install 'opcd-bench\[adam8bit\]'"):
        optimiser([torch.nn.Parameter(torch.ones(3))], suite(optim="adamw_8bit"), 1e-3)


@needs_bnb
def test_large_parameters_have_8_bit_moments_and_small_ones_32_bit():
    large = torch.nn.Parameter(torch.ones(EIGHT_BIT_FROM))
    small = torch.nn.Parameter(torch.ones(EIGHT_BIT_FROM - 1))
    made = optimiser([large, small], suite(optim="adamw_8bit"), 1e-3)
    for parameter in (large, small):
        parameter.grad = torch.ones_like(parameter)
    made.step()
    kinds = [made.state[p][key].dtype for p in (large, small) for key in ("state1", "state2")]
    assert kinds == [torch.uint8, torch.uint8, torch.float32, torch.float32]


@needs_bnb
def test_8_bit_moments_take_steps_close_to_adamws(tiny_loaded):
    moved = {}
    for optim in ("adamw", "adamw_8bit"):
        core = TrainingCore(student(tiny_loaded), suite(optim=optim), 1e-3)
        before = weights(core)
        trained(core, tiny_loaded, 4)
        moved[optim] = torch.cat(
            [(b - a).flatten() for a, b in zip(before, weights(core), strict=True)]
        )
    same = torch.nn.functional.cosine_similarity(moved["adamw"], moved["adamw_8bit"], dim=0)
    assert 0.95 < same < 1.0


@needs_bnb
def test_a_restored_8_bit_optimiser_goes_on_bit_for_bit(tiny_loaded, tmp_path):
    how = suite(optim="adamw_8bit")
    straight = TrainingCore(student(tiny_loaded), how, 1e-3)
    trained(straight, tiny_loaded, 4)
    first = TrainingCore(student(tiny_loaded), how, 1e-3)
    trained(first, tiny_loaded, 2)
    checkpoint.save(first, NoTeacher(first.student), tmp_path)
    second = TrainingCore(student(tiny_loaded), how, 1e-3)
    checkpoint.load(second, NoTeacher(second.student), tmp_path)
    trained(second, tiny_loaded, 2)
    assert all(torch.equal(a, b) for a, b in zip(weights(straight), weights(second), strict=True))


@pytest.mark.parametrize("optim", ["adamw", pytest.param("adamw_8bit", marks=needs_bnb)])
def test_bfloat16_weights_train_with_gradient_checkpointing(optim, tiny_model_folder):
    loaded = loading.load(str(tiny_model_folder), device="cpu", dtype="bfloat16")
    how = suite(dtype="bfloat16", gradient_checkpointing=True, optim=optim)
    core = TrainingCore(student(loaded), how, 1e-3)
    before = weights(core)
    divergences = trained(core, loaded, 8)
    assert divergences[-1] < 0.8 * divergences[0]
    assert {p.dtype for p in core.parameters} == {torch.bfloat16}
    moved = [not torch.equal(a, b) for a, b in zip(before, weights(core), strict=True)]
    # Norms are 1, where bfloat16 steps by 1/256: what rounds to no step at all is not moved.
    assert moved == [parameter.ndim == 2 for parameter in core.parameters]


def test_gradient_checkpointing_changes_no_gradient(tiny_loaded):
    norms = []
    for checkpointing in (False, True):
        core = TrainingCore(student(tiny_loaded), suite(gradient_checkpointing=checkpointing), 1e-3)
        report = core.step(PAIRS, named("rkl_full"), frozen(loading.freeze(tiny_loaded), core))
        norms.append(report.grad_norm)
    assert norms[0] == pytest.approx(norms[1], rel=1e-4) and norms[0] > 0


def test_gradient_checkpointing_is_asked_for_by_the_name_of_the_day(tiny_loaded, monkeypatch):
    """A FutureWarning would be raised; older transformers have the other name alone."""
    how = suite(gradient_checkpointing=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        new = TrainingCore(student(tiny_loaded), how, 1e-3).student.model
    kwargs = []
    monkeypatch.delattr(PreTrainedModel, "activation_checkpointing_enable", raising=False)
    monkeypatch.setattr(
        PreTrainedModel, "gradient_checkpointing_enable", lambda _, given: kwargs.append(given)
    )
    old = TrainingCore(student(tiny_loaded), how, 1e-3).student.model
    layers = [model.model.layers[0].gradient_checkpointing for model in (new, old)]
    assert layers == [True, False]
    assert [one["use_reentrant"] for one in kwargs] == [False]


def test_a_steps_seconds_by_phase_are_no_more_than_the_step_took(tiny_loaded):
    import time

    core = TrainingCore(student(tiny_loaded), suite(), 1e-3)
    began = time.perf_counter()
    report = core.step(PAIRS, named("rkl_full"), frozen(loading.freeze(tiny_loaded), core))
    took = time.perf_counter() - began
    assert set(report.seconds) == {"teacher", "student", "optimiser"}
    assert all(seconds > 0 for seconds in report.seconds.values())
    assert 0.5 * took < sum(report.seconds.values()) <= took
