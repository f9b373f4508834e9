"""Divergences beside those of TRL's SDFT and DistillationTrainer: a step's loss and gradient."""

import pytest
import torch

from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.functional import token_loss

trl = pytest.importorskip("trl", reason="TRL is in the bench environment alone: make test-trl")

B, T, H, V, K = 3, 4, 7, 19, 5


def tensors():
    """Hidden states of student and teacher, their heads, the written ids and a mask."""
    g = torch.Generator().manual_seed(11)
    student, teacher = (torch.randn(B, T, H, generator=g, dtype=torch.float64) for _ in range(2))
    heads = [torch.randn(V, H, generator=g, dtype=torch.float64) for _ in range(2)]
    mask = (torch.arange(T) < torch.tensor([4, 2, 3])[:, None]).long()
    return student, teacher, heads, torch.randint(V, (B, T), generator=g), mask


def ours(loss, logits, teacher, ids, mask):
    """The mean over written tokens, and its gradient with respect to the logits."""
    own = logits.clone().requires_grad_(True)
    value = (token_loss(loss, own, teacher, ids).surrogate * mask).sum() / mask.sum()
    return value, torch.autograd.grad(value, own)[0]


@pytest.mark.parametrize(
    ("alpha", "loss"),
    [(0.0, named("fkl_full")), (1.0, named("rkl_full")),
     (0.5, named("jsd_b", beta=0.5))],
)  # fmt: skip
def test_whole_vocabulary_losses_are_those_of_sdft(alpha, loss):
    from trl.experimental.sdft.loss_utils import compute_full_logit_self_distillation_loss

    student, teacher, (one, other), ids, mask = tensors()
    logits, told = student @ one.T, teacher @ other.T
    own = logits.clone().requires_grad_(True)
    each = compute_full_logit_self_distillation_loss(own, told, distillation_alpha=alpha)
    its = (each * mask).sum() / mask.sum()
    (gradient,) = torch.autograd.grad(its, own)
    value, found = ours(loss, logits, told, ids, mask)
    assert torch.allclose(value, its, atol=1e-10)
    assert torch.allclose(found, gradient, atol=1e-10)


@pytest.mark.parametrize("tail", [False, True])
def test_top_k_losses_are_those_of_sdft(tail):
    """Renormalised on the student's k likeliest tokens, or with one bucket for all others."""
    from trl.experimental.sdft.loss_utils import compute_topk_self_distillation_loss

    student, teacher, (one, other), ids, mask = tensors()
    logits, told = student @ one.T, teacher @ other.T
    own = logits.clone().requires_grad_(True)
    each = compute_topk_self_distillation_loss(
        own, told, distillation_topk=K, distillation_alpha=1.0, distillation_add_tail=tail
    )
    its = (each * mask).sum() / mask.sum()
    (gradient,) = torch.autograd.grad(its, own)
    loss = named("rkl_tail" if tail else "rkl_renorm", support="student_top_k", k=K)
    value, found = ours(loss, logits, told, ids, mask)
    assert torch.allclose(value, its, atol=1e-10)
    assert torch.allclose(found, gradient, atol=1e-10)


@pytest.mark.parametrize(
    ("beta", "loss"),
    [(0.0, named("fkl_full")), (1.0, named("rkl_full")),
     (0.5, named("jsd_b", beta=0.5))],
)  # fmt: skip
def test_losses_are_those_of_the_distillation_trainer(beta, loss):
    """From the student's last hidden states, through both LM heads."""
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    student, teacher, (one, other), ids, mask = (
        [x.float() for x in part] if isinstance(part, list) else
        part.float() if part.is_floating_point() else part
        for part in tensors()
    )  # fmt: skip
    states = student.clone().requires_grad_(True)
    its, _, count = _chunked_divergence_loss(states, teacher, one, other, mask, beta)
    (gradient,) = torch.autograd.grad(its, states)
    assert int(count) == int(mask.sum())
    own = student.clone().requires_grad_(True)
    each = token_loss(loss, own @ one.T, teacher @ other.T, ids).surrogate
    value = (each * mask).sum() / mask.sum()
    (found,) = torch.autograd.grad(value, own)
    assert torch.allclose(value, its, atol=1e-5)
    assert torch.allclose(found, gradient, atol=1e-5)
