"""How far the gradient of each loss is from the full reverse KL's, on one batch of stored logits.

Everything is computed in float64 with respect to the student's logits, so that a difference is the
loss's own and not rounding or a network's. The bias of truncated and sampled losses that this
measures is the subject of arXiv 2605.11182.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from opcd_bench.distillation.losses import diagnostics, functional
from opcd_bench.distillation.losses.divergence import Divergence, named

Averaged = Literal["exact", "student", "teacher", "replies"]

_WORDS_PER_PASS = 1 << 22  # numbers in one expanded block of logits, 32 MB in float64
_NO_GRADIENT = 1e-6


@dataclass(frozen=True)
class AuditRow:
    """One loss against the full reverse KL, whose logit gradient is called G below.

    Attributes:
        loss: the loss that was audited.
        id: its short name.
        averaged: where the expected gradient g comes from: `exact` (the loss does not look at the
            written token), `student` or `teacher` (summed over every token y of the vocabulary,
            weighted by that model's probability), `replies` (the stored replies only: noisy).
        cosine: of g and G over all positions together; None where either is zero.
        norm_ratio: norm of g over norm of G.
        bias_ratio: norm of g - G over norm of G; None, as is `norm_ratio`, where G is zero.
        student_mass_outside: the student's mean probability outside the support.
        teacher_mass_outside: the teacher's.
        no_gradient_share: share of the positions with G above zero at which g is zero; None where
            there are none.
        positions: how many positions the row is made from.

    """

    loss: Divergence
    id: str
    averaged: Averaged
    cosine: float | None
    norm_ratio: float | None
    bias_ratio: float | None
    student_mass_outside: float
    teacher_mass_outside: float | None
    no_gradient_share: float | None
    positions: int


def rows(
    audited: Sequence[Divergence],
    student_logits: Tensor,
    teacher_logits: Tensor,
    reply_ids: Tensor,
    *,
    enumerate_up_to: int = 4096,
) -> list[AuditRow]:
    """Compare each loss's expected logit gradient with the full reverse KL's.

    A loss that reads the written token is averaged exactly, over every token weighted by the
    student's probability (by the teacher's for the negative log-likelihood, whose replies the
    teacher writes), where the vocabulary has at most `enumerate_up_to` tokens; over the stored
    replies otherwise. Importance weights are 1: the sampler is the student itself.

    Args:
        audited: the losses, each one row.
        student_logits: shape (..., V).
        teacher_logits: shape (..., V).
        reply_ids: shape (...).
        enumerate_up_to: largest vocabulary that is summed over; time grows with its square.

    Raises:
        InvalidLoss: a k is above the vocabulary.
        ValueError: shapes do not fit, or there is no position.

    """
    if student_logits.shape != teacher_logits.shape or student_logits.shape[:-1] != reply_ids.shape:
        raise ValueError("logits must be (..., V) for both models and reply_ids (...)")
    if reply_ids.numel() == 0:
        raise ValueError("no positions to audit")
    vocabulary = student_logits.shape[-1]
    batch = _Batch(
        student_logits.detach().double().reshape(-1, vocabulary),
        teacher_logits.detach().double().reshape(-1, vocabulary),
        reply_ids.reshape(-1),
    )
    reference_NV = _gradient(named("rkl_full"), batch)
    return [_row(loss, batch, reference_NV, enumerate_up_to) for loss in audited]


class _Batch(NamedTuple):
    student_NV: Tensor
    teacher_NV: Tensor
    reply_ids_N: Tensor


def _row(loss: Divergence, batch: _Batch, reference_NV: Tensor, enumerate_up_to: int) -> AuditRow:
    averaged: Averaged = "exact"
    if loss.reads_reply:
        averaged = "teacher" if loss.teacher_needs == "none" else "student"
        if batch.student_NV.shape[-1] > enumerate_up_to:
            averaged = "replies"
    if averaged in ("student", "teacher"):
        gradient_NV = _expected_gradient(loss, batch, averaged == "teacher")
    else:
        gradient_NV = _gradient(loss, batch)
    size, reference_size = gradient_NV.norm().item(), reference_NV.norm().item()
    pulled_N = reference_NV.norm(dim=-1) > 1e-12
    silent_N = gradient_NV.norm(dim=-1) <= _NO_GRADIENT * reference_NV.norm(dim=-1)
    # below this a gradient is the rounding of terms that cancel, and has no direction
    moves = size > 1e-12 * batch.student_NV.shape[0] ** 0.5
    cosine = (gradient_NV * reference_NV).sum().item() / (size * reference_size or 1.0)
    support = diagnostics.support_metrics(
        batch.student_NV, batch.teacher_NV, loss, batch.reply_ids_N
    )
    teacher_mass_N = support.teacher_mass
    return AuditRow(
        loss=loss,
        id=loss.id,
        averaged=averaged,
        cosine=cosine if moves and reference_size > 0 else None,
        norm_ratio=size / reference_size if reference_size > 0 else None,
        bias_ratio=(
            (gradient_NV - reference_NV).norm().item() / reference_size
            if reference_size > 0
            else None
        ),
        student_mass_outside=(1 - support.student_mass).mean().item(),
        teacher_mass_outside=(
            None if teacher_mass_N is None else (1 - teacher_mass_N).mean().item()
        ),
        no_gradient_share=(
            (silent_N & pulled_N).sum().item() / pulled_N.sum().item() if pulled_N.any() else None
        ),
        positions=batch.student_NV.shape[0],
    )


def _gradient(loss: Divergence, batch: _Batch) -> Tensor:
    """Logit gradient with the stored replies, shape (N, V)."""
    student_NV = batch.student_NV.clone().requires_grad_(True)
    sampler_logp_N = student_NV.detach().log_softmax(-1)
    sampler_logp_N = sampler_logp_N.gather(-1, batch.reply_ids_N.unsqueeze(-1)).squeeze(-1)
    surrogate_N = functional.token_loss(
        loss, student_NV, batch.teacher_NV, batch.reply_ids_N, sampler_logp=sampler_logp_N
    ).surrogate
    return torch.autograd.grad(surrogate_N.sum(), student_NV)[0]


def _expected_gradient(loss: Divergence, batch: _Batch, by_teacher: bool) -> Tensor:
    """Sum over y of P(y) times the logit gradient with y written, shape (N, V)."""
    total, vocabulary = batch.student_NV.shape
    writer_logp_NV = (batch.teacher_NV if by_teacher else batch.student_NV).log_softmax(-1)
    gradient_NV = torch.zeros_like(batch.student_NV)
    words_per_pass = max(1, min(vocabulary, _WORDS_PER_PASS // vocabulary))
    rows_per_pass = max(1, _WORDS_PER_PASS // (vocabulary * words_per_pass))
    for start in range(0, total, rows_per_pass):
        part = slice(start, start + rows_per_pass)
        student_NV = batch.student_NV[part].clone().requires_grad_(True)
        for first in range(0, vocabulary, words_per_pass):
            ids_Y = torch.arange(
                first, min(first + words_per_pass, vocabulary), device=student_NV.device
            )
            shape = (student_NV.shape[0], len(ids_Y), vocabulary)
            surrogate_NY = functional.token_loss(
                loss,
                student_NV.unsqueeze(1).expand(shape),
                batch.teacher_NV[part].unsqueeze(1).expand(shape),
                ids_Y.expand(shape[:2]),
                sampler_logp=writer_logp_NV[part][:, ids_Y],
            ).surrogate
            weighted = (surrogate_NY * writer_logp_NV[part][:, ids_Y].exp()).sum()
            gradient_NV[part] += torch.autograd.grad(weighted, student_NV)[0]
    return gradient_NV
