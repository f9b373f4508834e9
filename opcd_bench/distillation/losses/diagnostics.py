"""What is logged beside a loss: what its support leaves out, and the fingerprints of truncation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.functional import (
    at_reply,
    check_shapes,
    listed,
    teacher_of,
)
from opcd_bench.distillation.losses.supports import (
    FromList,
    FromLogits,
    LogProbSource,
    log_probs_on_support,
)

_OVERLAP_K = 20


_ROUNDING = 1e-6  # nats: a sum nearer to 0 is as good as 0


class SupportMetrics(NamedTuple):
    """What a support leaves out, per token; None where the teacher's list cannot tell.

    `student_mass` and `teacher_mass` are the two models' probability on the support (P_S and Q_S),
    entropies are in nats over the whole vocabulary, `top_k_overlap` is the share of the student's
    top-k that is in the teacher's (k of the loss, else 20), `support_size` counts ids, and
    `coverage` is the share of the ids asked for whose teacher log-prob was known.

    Three fingerprints of truncation (arXiv 2605.11182): `log_ratio` is the student's mean of
    l = log p - log q inside the support, which drifts to -1 where mass leaks; `leak` is
    2 P_S (1 - P_S), the L1 norm of the gradient of P_S that a truncated loss without a
    stop-gradient adds; `negative_share` is 1 where the sum of p l over the support is negative.
    """

    student_mass: Tensor
    teacher_mass: Tensor | None
    student_entropy: Tensor
    teacher_entropy: Tensor | None
    top_k_overlap: Tensor | None
    support_size: Tensor
    coverage: Tensor | None
    log_ratio: Tensor | None
    leak: Tensor
    negative_share: Tensor | None


@torch.no_grad()
def support_metrics(
    student_logits: Tensor, teacher_logits: Tensor | None, loss: Divergence, reply_ids: Tensor
) -> SupportMetrics:
    """What the training core logs beside a loss; shapes as in `token_loss`, all (...)."""
    check_shapes(student_logits, teacher_logits, reply_ids)
    student, teacher = FromLogits(student_logits), teacher_of(loss, teacher_logits)
    return _metrics(loss, student, teacher, reply_ids)


@torch.no_grad()
def support_metrics_from_support(
    student_logits: Tensor,
    support_ids: Tensor,
    teacher_logp: Tensor,
    loss: Divergence,
    reply_ids: Tensor,
    *,
    reply_teacher_logp: Tensor | None = None,
) -> SupportMetrics:
    """The same from a listed teacher, whose entropy stays None; `coverage` tells missing ids."""
    check_shapes(student_logits, None, reply_ids)
    student = FromLogits(student_logits)
    teacher = listed(
        loss, student, support_ids, teacher_logp, reply_ids, reply_teacher_logp=reply_teacher_logp
    )
    return _metrics(loss, student, teacher, reply_ids)


def _metrics(
    loss: Divergence, student: FromLogits, teacher: LogProbSource | None, reply_ids_X: Tensor
) -> SupportMetrics:
    logp_XV = student.everywhere()
    entropy_X = -(logp_XV.exp() * logp_XV).sum(-1)
    ones_X = torch.ones_like(entropy_X)
    if teacher is None:
        mass_X = at_reply(student, reply_ids_X).exp()
        return SupportMetrics(
            student_mass=mass_X,
            teacher_mass=None,
            student_entropy=entropy_X,
            teacher_entropy=None,
            top_k_overlap=None,
            support_size=ones_X,
            coverage=None,
            log_ratio=None,
            leak=_leak(mass_X),
            negative_share=None,
        )
    teacher_logp_XV = teacher.everywhere() if isinstance(teacher, FromLogits) else None
    if loss.support == "full":
        assert teacher_logp_XV is not None
        own_logp_XB, its_logp_XB = logp_XV, teacher_logp_XV
        mass_X = teacher_mass_X = coverage_X = ones_X
        size_X = ones_X * logp_XV.shape[-1]
    else:
        reading = log_probs_on_support(loss, student, teacher, reply_ids_X)
        own_logp_XB, its_logp_XB = reading.student_logp_XK, reading.teacher_logp_XK
        mass_X, teacher_mass_X = own_logp_XB.exp().sum(-1), its_logp_XB.exp().sum(-1)
        coverage_X = reading.coverage_X.to(entropy_X.dtype)
        size_X = reading.inside_XK.sum(-1).to(entropy_X.dtype)
    truncated_X = (own_logp_XB.exp() * (own_logp_XB - its_logp_XB)).sum(-1)
    return SupportMetrics(
        student_mass=mass_X,
        teacher_mass=teacher_mass_X,
        student_entropy=entropy_X,
        teacher_entropy=(
            None if teacher_logp_XV is None else -(teacher_logp_XV.exp() * teacher_logp_XV).sum(-1)
        ),
        top_k_overlap=_overlap(loss, student, teacher),
        support_size=size_X,
        coverage=coverage_X,
        log_ratio=truncated_X / mass_X.clamp(min=torch.finfo(mass_X.dtype).tiny),
        leak=_leak(mass_X),
        negative_share=(truncated_X < -_ROUNDING).to(entropy_X.dtype),
    )


def _leak(mass_X: Tensor) -> Tensor:
    """L1 norm of the logit gradient of a support's mass."""
    return (2 * mass_X * (1 - mass_X)).clamp(min=0)


def _overlap(loss: Divergence, student: FromLogits, teacher: LogProbSource) -> Tensor | None:
    """Share of the student's top-k that is in the teacher's; None if its list is too short."""
    k = loss.k or min(_OVERLAP_K, student.logits_XV.shape[-1])
    if isinstance(teacher, FromList) and teacher.shortest() < k:
        return None
    both_XK = torch.cat([student.top_ids(k), teacher.top_ids(k)], -1).sort(dim=-1).values
    return (both_XK[..., 1:] == both_XK[..., :-1]).sum(-1).to(student.logits_XV.dtype) / k
