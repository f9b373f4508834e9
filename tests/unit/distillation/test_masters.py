"""Float32 weights behind a bfloat16 student: small steps add up, and a resumed run is the same."""

from __future__ import annotations

import copy
import dataclasses
import gc

import pytest
import torch
from fixtures import frozen

from opcd_bench.config.suite import make_suite
from opcd_bench.distillation import checkpoint
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.masters import BLOCK, MasterWeights
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.teachers.local import NoTeacher
from opcd_bench.distillation.trainer import TrainingCore
from opcd_bench.models import cpu, loading
from opcd_bench.progress import QuietReporter
from opcd_bench.runner.models import SuiteModels
from opcd_bench.runner.resources import Resources
from opcd_bench.store.suite_dir import SuiteDir

PAIRS = [
    Pair("a", 0, (5, 6, 7), (9, 8, 5, 6, 7), (20, 21, 22)),
    Pair("b", 0, (5, 9), (9, 8, 5, 9), (30, 31)),
]


def suite(**values):
    base = {"methods": "opcd", "tasks": "rule_math", "max_steps": 4, "bf16": True}
    return make_suite({**base, **values}, "test")


def rounded(loaded):
    module = copy.deepcopy(loaded.model).to(torch.bfloat16)
    return dataclasses.replace(loaded, model=module, dtype=torch.bfloat16)


def core_of(loaded, rate=1e-4, **values):
    student = rounded(loaded)
    student.model.requires_grad_(True)
    return TrainingCore(student, suite(micro_batch_size=1, **values), rate)


def teacher_of(loaded, core):
    return frozen(loading.freeze(rounded(loaded)), core)


def test_steps_that_bfloat16_rounds_away_add_up_in_float32():
    coarse = torch.nn.Parameter(torch.full((8,), 1.0, dtype=torch.bfloat16))
    masters = MasterWeights([coarse])
    for _ in range(100):
        with torch.no_grad():
            masters.parameters[0].sub_(1e-4)
        masters.show()
    assert coarse[0].item() == pytest.approx(0.99, abs=4e-3) and coarse.dtype == torch.bfloat16


def test_gradients_of_several_passes_add_up_in_float32():
    coarse = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    masters = MasterWeights([coarse])
    for gradient in (256.0, 1.0, 1.0):  # in bfloat16 256 + 1 is 256
        (coarse * gradient).sum().backward()
        assert coarse.grad is None
    assert masters.parameters[0].grad.tolist() == [258.0, 258.0]


def test_a_large_gradient_adds_up_block_by_block_and_a_new_step_begins_at_nothing():
    coarse = torch.nn.Parameter(torch.ones(3, BLOCK // 2, dtype=torch.bfloat16))
    masters = MasterWeights([coarse])
    slope = torch.arange(coarse.numel(), dtype=torch.float32).remainder(64).view_as(coarse)
    for _ in range(2):  # steps
        for times in (1, 2, 3):  # micro-batches
            (coarse * slope.bfloat16() * times).sum().backward()
        assert torch.equal(masters.parameters[0].grad, 6 * slope)
        masters.parameters[0].grad = None  # what zero_grad leaves


def test_who_comes_next_on_the_same_parameters_takes_their_gradients():
    coarse = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    first = MasterWeights([coarse])
    second = MasterWeights([coarse])
    coarse.sum().backward()
    assert second.parameters[0].grad.tolist() == [1.0, 1.0]
    assert first.parameters[0].grad is None
    del first, second
    gc.collect()
    coarse.sum().backward()
    assert coarse.grad.tolist() == [1.0, 1.0], "nobody trains it"


def test_float32_parameters_are_their_own_masters():
    exact = torch.nn.Parameter(torch.ones(2))
    masters = MasterWeights([exact])
    assert masters.parameters[0] is exact and masters.state() == {}


def test_a_core_in_bfloat16_moves_nearly_as_in_float32(tiny_loaded):
    core = core_of(tiny_loaded, bf16=True)
    before = [p.detach().clone() for p in core.parameters]
    core.step(PAIRS, named("rkl_full"), teacher_of(tiny_loaded, core))
    assert all(p.dtype == torch.float32 for p in core.parameters)
    moved = [(p - b).abs().max().item() for p, b in zip(core.parameters, before, strict=True)]
    assert 0 < max(moved) <= 1.05e-4, "a step of AdamW is at most the learning rate"
    for shown, master in zip(core.student.model.parameters(), core.parameters, strict=True):
        assert torch.equal(shown, master.to(torch.bfloat16))


def test_without_float32_behind_it_where_the_suite_says_bfloat16(tiny_loaded):
    core = core_of(tiny_loaded, dtype="bfloat16")
    assert core.masters is None
    assert all(p.dtype == torch.bfloat16 for p in core.parameters)


def test_a_resumed_run_is_the_uninterrupted_one(tiny_loaded, tmp_path):
    whole, first = core_of(tiny_loaded), core_of(tiny_loaded)
    loss = named("rkl_full")
    for _ in range(4):
        whole.step(PAIRS, loss, teacher_of(tiny_loaded, whole))
    for _ in range(2):
        first.step(PAIRS, loss, teacher_of(tiny_loaded, first))
    tmp_path.joinpath("c").mkdir()
    checkpoint.save(first, NoTeacher(first.student), tmp_path / "c")
    again = core_of(tiny_loaded)
    checkpoint.load(again, NoTeacher(again.student), tmp_path / "c")
    for _ in range(2):
        again.step(PAIRS, loss, teacher_of(tiny_loaded, again))
    for one, other in zip(whole.parameters, again.parameters, strict=True):
        assert torch.equal(one, other)
    for one, other in zip(
        whole.student.model.parameters(), again.student.model.parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_bf16_is_one_setting_for_all_models_of_a_suite(tiny_model_folder):
    """Sampling, scoring, training and evaluation read one module, and that is bfloat16."""
    made = SuiteModels(suite(model=str(tiny_model_folder), teacher_model=str(tiny_model_folder)))
    assert made.identity["dtype"] == "bfloat16"
    for loaded in (made.initial, made.fresh_student(), made.larger()):
        assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}


def test_a_run_in_bfloat16_says_what_it_gains_on_this_cpu(tiny_model_folder, tmp_path, monkeypatch):
    made = Resources(suite(model=str(tiny_model_folder)), SuiteDir(tmp_path / "s"), QuietReporter())
    for gain, advice in ((0.2, True), (3.1, False)):
        monkeypatch.setattr(cpu, "bf16_gain", lambda gain=gain: gain)
        (told,) = made.remarks()
        assert f"{gain:g} times the pace of float32" in told
        assert ("--set bf16=false" in told) == advice


def test_a_model_that_cannot_share_contexts_is_named(tiny_model_folder, tmp_path, monkeypatch):
    made = Resources(
        suite(model=str(tiny_model_folder), bf16=False), SuiteDir(tmp_path / "s"), QuietReporter()
    )
    assert list(made.remarks()) == []
    monkeypatch.setattr(cpu, "plain", lambda model: False)
    (told,) = made.remarks()
    assert "a context is read again for every response" in told
