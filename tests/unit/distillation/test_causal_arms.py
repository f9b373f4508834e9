"""The causal arms of the biased top-k: neighbours differ by the mass gradient alone."""

import pytest
import torch

from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.functional import token_loss

N, V = 8, 13


def tensors(seed=0):
    g = torch.Generator().manual_seed(seed)
    student = 2 * torch.randn(N, V, generator=g, dtype=torch.float64)
    return student, 2 * torch.randn(N, V, generator=g, dtype=torch.float64)


def gradient(loss, student, teacher):
    z = student.clone().requires_grad_(True)
    out = token_loss(loss, z, teacher, torch.zeros(N, dtype=torch.long))
    return torch.autograd.grad(out.surrogate.sum(), z)[0], out


def mass_gradient(student, k):
    """Of the student's mass on its top k, by autograd from its definition."""
    z = student.clone().requires_grad_(True)
    inside = z.detach().topk(k).indices
    return torch.autograd.grad(z.softmax(-1).gather(-1, inside).sum(), z)[0]


@pytest.mark.parametrize("k", [1, 4, 12])
def test_the_two_arms_add_and_take_the_same_gradient(k):
    student, teacher = tensors()
    full, _ = gradient(named("rkl_full"), student, teacher)
    leaking, out = gradient(named("rkl_full_leak", k=k, allow_broken=True), student, teacher)
    naive, _ = gradient(named("rkl_trunc_naive", k=k), student, teacher)
    stopped, _ = gradient(named("rkl_trunc_sg", k=k), student, teacher)
    leak = mass_gradient(student, k)
    assert torch.allclose(leaking - full, leak, atol=1e-12)
    assert torch.allclose(naive - stopped, leak, atol=1e-12)
    assert float(leak.norm()) > 1e-3
    p, q = student.softmax(-1), teacher.softmax(-1)
    wanted = (p * (p.log() - q.log())).sum(-1)
    assert torch.allclose(out.divergence, wanted) and torch.allclose(out.surrogate.detach(), wanted)


def test_over_the_whole_vocabulary_there_is_nothing_to_leak():
    student, teacher = tensors()
    full, _ = gradient(named("rkl_full"), student, teacher)
    leaking, _ = gradient(named("rkl_full_leak", k=V, allow_broken=True), student, teacher)
    assert torch.allclose(full, leaking, atol=1e-12)


def test_at_the_teacher_only_the_mass_moves():
    student, _ = tensors()
    found, out = gradient(named("rkl_full_leak", k=3, allow_broken=True), student, student)
    assert torch.allclose(found, mass_gradient(student, 3), atol=1e-12)
    assert float(out.divergence.abs().max()) < 1e-12
