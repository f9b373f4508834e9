"""Both models over the whole vocabulary, read once: the loss, its gradient and what is logged."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from opcd_bench.distillation.losses import expressions
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.logits import (
    assert_first_derivative,
    blocks,
    entropy_of,
    floored,
    masked,
)
from opcd_bench.distillation.losses.sources import FromLogits


class Whole(NamedTuple):
    """What one pass over the logits of N positions gives, each of shape (N,), in nats."""

    surrogate_N: Tensor
    divergence_N: Tensor
    student_total_N: Tensor
    teacher_total_N: Tensor
    student_entropy_N: Tensor
    teacher_entropy_N: Tensor
    reverse_kl_N: Tensor


REVERSE_KL = Divergence(direction="reverse_kl")


def in_closed_form(loss: Divergence) -> bool:
    """Whether `whole_loss` computes it; controls go through autograd."""
    stopped = loss.gradient in ("through", "stop_gradient")  # the same over a whole vocabulary
    return loss.support == "full" and stopped and loss.clip is None


def whole_loss(loss: Divergence, student: FromLogits, teacher: FromLogits) -> Whole:
    """A loss over the whole vocabulary, of which the surrogate alone carries a gradient."""
    found = Whole(*_WholeLoss.apply(loss, student.rows_NV, teacher.rows_NV))  # type: ignore[no-untyped-call]
    return _remembered(found, student, teacher)


def compared(student: FromLogits, teacher: FromLogits) -> Whole:
    """What is logged of two models, without a gradient."""
    found = _read(REVERSE_KL, student.rows_NV, teacher.rows_NV)
    return _remembered(found, student, teacher)


def _remembered(found: Whole, student: FromLogits, teacher: FromLogits) -> Whole:
    """Spare the two models a pass of their own."""
    student.total_N, student.entropy_N = found.student_total_N, found.student_entropy_N
    teacher.total_N, teacher.entropy_N = found.teacher_total_N, found.teacher_entropy_N
    return found


@torch.no_grad()
def _read(loss: Divergence, student_NV: Tensor, teacher_NV: Tensor) -> Whole:
    """One pass over both models' logits."""
    found = Whole(*(student_NV.new_empty(len(student_NV)) for _ in Whole._fields))
    for part in blocks(student_NV):
        values = _values(loss, student_NV[part], teacher_NV[part])
        for all_N, value_R in zip(found, values, strict=True):
            all_N[part] = value_R
    return found


def _values(loss: Divergence, student_RV: Tensor, teacher_RV: Tensor) -> Whole:
    """`Whole` of one block."""
    student_total_R, teacher_total_R = student_RV.logsumexp(-1), teacher_RV.logsumexp(-1)
    student_logp_RV = floored(student_RV - student_total_R[:, None], teacher=False)
    teacher_logp_RV = floored(teacher_RV - teacher_total_R[:, None], teacher=True)
    p_RV, q_RV = student_logp_RV.exp(), teacher_logp_RV.exp()
    reverse_kl_R = expressions.kl(student_logp_RV, teacher_logp_RV, p_RV, q_RV)
    divergence_R, mixed_RV = reverse_kl_R, None
    if loss.direction not in ("reverse_kl", "forward_kl"):
        mixed_RV = expressions.mixture(loss, student_logp_RV, teacher_logp_RV)
    if loss.direction != "reverse_kl":
        divergence_R = expressions.divergence(loss, student_logp_RV, teacher_logp_RV, mixed_RV)
    return Whole(
        expressions.surrogate(loss, student_logp_RV, teacher_logp_RV, mixed_RV),
        divergence_R,
        student_total_R,
        teacher_total_R,
        entropy_of(p_RV, student_logp_RV),
        entropy_of(q_RV, teacher_logp_RV),
        reverse_kl_R,
    )


class _WholeLoss(torch.autograd.Function):
    """Saves the two models' logits and a number a row; the backward pass writes the gradient."""

    @staticmethod
    def forward(ctx: Any, loss: Divergence, student_NV: Tensor, teacher_NV: Tensor) -> Whole:
        found = _read(loss, student_NV, teacher_NV)
        ctx.loss = loss
        ctx.save_for_backward(student_NV, teacher_NV, found.student_total_N, found.teacher_total_N)
        ctx.mark_non_differentiable(*found[1:])
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        assert_first_derivative()
        student_NV, teacher_NV, student_total_N, teacher_total_N = ctx.saved_tensors
        gradient_NV = torch.empty_like(student_NV)
        for part in blocks(student_NV):
            student_logp_RV = student_NV[part] - student_total_N[part, None]
            teacher_logp_RV = teacher_NV[part] - teacher_total_N[part, None]
            marks_RV = masked(student_logp_RV)
            student_logp_RV = floored(student_logp_RV, teacher=False)
            teacher_logp_RV = floored(teacher_logp_RV, teacher=True)
            slope_RV = expressions.slope(ctx.loss, student_logp_RV, teacher_logp_RV)
            if marks_RV is not None:
                slope_RV.masked_fill_(marks_RV, 0.0)
            p_RV = student_logp_RV.exp_()
            # over the sum of p, which the rounding of the total keeps from being 1
            mean_R1 = slope_RV.sum(-1, keepdim=True) / p_RV.sum(-1, keepdim=True)
            slope_RV.addcmul_(p_RV, mean_R1, value=-1)
            torch.mul(slope_RV, grads[0][part, None], out=gradient_NV[part])
        return None, gradient_NV, None
