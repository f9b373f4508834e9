"""Runtime teachers: what moves, what follows, and in which precision."""

import copy
import dataclasses
import importlib.util

import pytest
import torch
from fixtures import tiny_model, tiny_tokenizer

from opcd_bench.distillation.teachers.local import EmaTeacher, FrozenTeacher, LiveTeacher
from opcd_bench.models import adapters
from opcd_bench.models.loading import assemble, copy_frozen

RATE = 0.999


def as_type(loaded, dtype):
    return dataclasses.replace(loaded, model=copy.deepcopy(loaded.model).to(dtype), dtype=dtype)


def student_of(loaded, change):
    """A student whose weights are those of ``loaded`` and a constant more."""
    student = dataclasses.replace(loaded, model=copy.deepcopy(loaded.model))
    with torch.no_grad():
        for parameter in student.model.parameters():
            parameter.add_(change)
    return student


def weights(teacher):
    return torch.cat([p.detach().float().flatten() for p in teacher.model.model.parameters()])


def test_an_average_follows_the_student_by_its_rate(tiny_loaded):
    teacher = EmaTeacher(tiny_loaded, 0.75, 1.0)
    before, student = weights(teacher), student_of(tiny_loaded, 0.5)
    teacher.after_step(student)
    assert torch.allclose(weights(teacher), before + 0.25 * 0.5, atol=1e-6)
    assert torch.equal(weights(FrozenTeacher(tiny_loaded, 1.0)), before), "the initial model stays"


def test_an_average_in_bfloat16_moves_as_one_in_float32(tiny_loaded):
    """A step of a thousandth rounds away in bfloat16; a hundred of them do not."""
    coarse = as_type(tiny_loaded, torch.bfloat16)
    exact = as_type(coarse, torch.float32)
    teachers = {loaded.dtype: EmaTeacher(loaded, RATE, 1.0) for loaded in (coarse, exact)}
    before = weights(teachers[torch.bfloat16])
    student = student_of(exact, 0.25)
    for _ in range(100):
        for dtype, teacher in teachers.items():
            teacher.after_step(as_type(student, dtype))
    moved = weights(teachers[torch.bfloat16]) - before
    wanted = weights(teachers[torch.float32]) - before
    assert float(wanted.min()) > 0.02
    assert float((moved - wanted).abs().mean()) < 0.1 * float(wanted.mean())
    assert float((moved != 0).float().mean()) > 0.8


def test_an_average_is_saved_with_what_its_type_rounds_away(tiny_loaded, tmp_path):
    coarse = as_type(tiny_loaded, torch.bfloat16)
    student = student_of(coarse, 0.25)
    teacher, again = EmaTeacher(coarse, RATE, 1.0), EmaTeacher(coarse, RATE, 1.0)
    teacher.after_step(student)
    teacher.save(tmp_path)
    again.load(tmp_path)
    for one in (teacher, again):
        one.after_step(student)
    for name, average in teacher._average.items():
        assert torch.equal(average, again._average[name])


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs peft")
def test_an_average_of_an_adapter_is_of_merged_weights(tiny_loaded):
    loaded = assemble("again", tiny_model(), tiny_tokenizer())
    plain = copy_frozen(loaded)
    student = adapters.attach(loaded, rank=4, alpha=8, targets="all-linear", seed=0)
    teacher = EmaTeacher(adapters.before(student), 0.75, 1.0)
    assert torch.equal(weights(teacher), weights(FrozenTeacher(plain, 1.0)))
    assert not any(".lora_" in name for name, _ in teacher.model.model.named_parameters())
    with torch.no_grad():
        for parameter in adapters.parameters(student):
            parameter.add_(0.1)
    merged = adapters.weights(student)
    teacher.after_step(student)
    for name, parameter in teacher.model.model.named_parameters():
        start = plain.model.get_parameter(name)
        assert torch.allclose(parameter, start + 0.25 * (merged[name] - start), atol=1e-6), name
    moved = weights(teacher) - weights(FrozenTeacher(plain, 1.0))
    assert float(moved.abs().max()) > 0.01


def test_a_live_teacher_is_the_students_own_module(tiny_loaded):
    assert LiveTeacher(tiny_loaded, 1.0).model is tiny_loaded
