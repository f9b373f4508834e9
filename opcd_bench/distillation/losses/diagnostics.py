"""What is logged beside a loss: what its support leaves out, and the fingerprints of truncation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from opcd_bench.distillation.losses import functional, whole
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.functional import Evaluated, TokenLoss
from opcd_bench.distillation.losses.policy import Beside
from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
from opcd_bench.distillation.losses.sources import FromList, FromLogits, LogProbSource
from opcd_bench.distillation.losses.supports import SupportLogProbs, log_probs_on_support
from opcd_bench.distillation.losses.whole import Whole

_OVERLAP_K = 20
_ROUNDING = 1e-6  # nats: a sum nearer to 0 is as good as 0

Metrics = dict[str, Tensor]
NOTHING = Beside()


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
    `signal` is what the leak is to be measured by, the L1 norm of the gradient p (m l - F) that the
    stop-gradient keeps (m is 1 on the support, F that sum); None for the whole vocabulary.
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
    signal: Tensor | None
    negative_share: Tensor | None


class Measured(NamedTuple):
    """A loss with what is logged beside it, all from one reading of the logits."""

    loss: TokenLoss
    metrics: Metrics
    reply_logp: Tensor
    """The student's log-prob of the written token, shape (...), without gradient."""


def measured(
    loss: Divergence | PolicyGradient | Callable[..., TokenLoss],
    student_logits: Tensor,
    teacher_logits: Tensor,
    reply_ids: Tensor,
    beside: Beside = NOTHING,
) -> Measured:
    """`token_loss` with `support_metrics`; ``reverse_kl`` is the full one, whatever the loss.

    A loss without coordinates, or that reads no teacher, has the metrics of the full reverse KL.
    """
    functional.check_shapes(student_logits, teacher_logits, reply_ids)
    student, teacher = FromLogits(student_logits), FromLogits(teacher_logits, teacher=True)
    more: Metrics = {}
    if isinstance(loss, PolicyGradient):
        seen = whole.compared(student, teacher)
        out, clipped = functional.rewarded(loss, student, teacher, reply_ids, beside)
        found, more = Evaluated(out, None, seen), {"clip_share": clipped.to(out.divergence)}
        loss = whole.REVERSE_KL
    elif not isinstance(loss, Divergence):
        out = functional.contributed(loss, student_logits, teacher_logits, reply_ids)
        found = Evaluated(out, None, whole.compared(student, teacher))
        loss = whole.REVERSE_KL
    else:
        shown = None if whole.in_closed_form(loss) else whole.compared(student, teacher)
        reads = loss.teacher_needs != "none"
        found = functional.evaluate(
            loss, student, teacher if reads else None, reply_ids, beside.sampler_logp, shown
        )
        loss = loss if reads else whole.REVERSE_KL
    assert found.whole is not None
    metrics = _known(_metrics(loss, student, teacher, reply_ids, found.reading, found.whole))
    metrics["reverse_kl"] = student.shaped(found.whole.reverse_kl_N)
    return _measured(found.loss, {**metrics, **more}, student, reply_ids)


def measured_from_support(
    loss: Divergence,
    student_logits: Tensor,
    support_ids: Tensor,
    teacher_logp: Tensor,
    reply_ids: Tensor,
    *,
    reply_teacher_logp: Tensor | None = None,
    sampler_logp: Tensor | None = None,
) -> Measured:
    """`from_support` with `support_metrics_from_support`; the full reverse KL stays unknown."""
    student, teacher = functional.listed(
        loss, student_logits, support_ids, teacher_logp, reply_ids, reply_teacher_logp
    )
    found = functional.evaluate(loss, student, teacher, reply_ids, sampler_logp)
    metrics = _known(_metrics(loss, student, teacher, reply_ids, found.reading, found.whole))
    return _measured(found.loss, metrics, student, reply_ids)


def measured_alone(
    loss: Divergence | PolicyGradient | Callable[..., TokenLoss],
    student_logits: Tensor,
    reply_ids: Tensor,
    beside: Beside = NOTHING,
) -> Measured:
    """A loss that reads no teacher, with the student's entropy."""
    student = FromLogits(student_logits)
    metrics: Metrics = {}
    if isinstance(loss, PolicyGradient):
        functional.check_shapes(student_logits, None, reply_ids)
        out, clipped = functional.rewarded(loss, student, None, reply_ids, beside)
        metrics["clip_share"] = clipped.to(out.divergence)
    elif isinstance(loss, Divergence):
        functional.check_shapes(student_logits, None, reply_ids)
        out = functional.evaluate(loss, student, None, reply_ids, None).loss
    else:
        out = functional.contributed(loss, student_logits, None, reply_ids)
    metrics["student_entropy"] = student.shaped(student.entropy_N)
    return _measured(out, metrics, student, reply_ids)


@torch.no_grad()
def _measured(
    out: TokenLoss, metrics: Metrics, student: FromLogits, reply_ids_X: Tensor
) -> Measured:
    return Measured(out, metrics, functional.at_reply(student, reply_ids_X))


def _known(values: SupportMetrics) -> Metrics:
    return {key: value for key, value in values._asdict().items() if value is not None}


@torch.no_grad()
def support_metrics(
    student_logits: Tensor, teacher_logits: Tensor | None, loss: Divergence, reply_ids: Tensor
) -> SupportMetrics:
    """What the training core logs beside a loss; shapes as in `token_loss`, all (...)."""
    functional.check_shapes(student_logits, teacher_logits, reply_ids)
    student, teacher = FromLogits(student_logits), functional.teacher_of(loss, teacher_logits)
    seen = None if teacher is None else whole.compared(student, teacher)
    return _metrics(loss, student, teacher, reply_ids, None, seen)


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
    student, teacher = functional.listed(
        loss, student_logits, support_ids, teacher_logp, reply_ids, reply_teacher_logp
    )
    return _metrics(loss, student, teacher, reply_ids, None, None)


@torch.no_grad()
def _metrics(
    loss: Divergence,
    student: FromLogits,
    teacher: LogProbSource | None,
    reply_ids_X: Tensor,
    reading: SupportLogProbs | None,
    seen: Whole | None,
) -> SupportMetrics:
    """From what has been read already, where it has been."""
    entropy_X = student.shaped(student.entropy_N)
    ones_X = torch.ones_like(entropy_X)
    if teacher is None:
        mass_X = functional.at_reply(student, reply_ids_X).exp()
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
            signal=None,
            negative_share=None,
        )
    signal_X = None
    if loss.support == "full":
        assert seen is not None
        truncated_X = student.shaped(seen.reverse_kl_N)
        mass_X = teacher_mass_X = coverage_X = ones_X
        size_X = ones_X * student.vocabulary
    else:
        reading = reading or log_probs_on_support(loss, student, teacher, reply_ids_X)
        own_logp_XK, its_logp_XK = reading.student_logp_XK, reading.teacher_logp_XK
        own_XK, ratio_XK = own_logp_XK.exp(), own_logp_XK - its_logp_XK
        truncated_X = (own_XK * ratio_XK).sum(-1)
        mass_X, teacher_mass_X = own_XK.sum(-1), its_logp_XK.exp().sum(-1)
        signal_X = (own_XK * (ratio_XK - truncated_X.unsqueeze(-1)).abs()).sum(-1)
        signal_X += (1 - mass_X).clamp(min=0) * truncated_X.abs()  # each token outside: p F
        coverage_X = reading.coverage_X.to(entropy_X.dtype)
        size_X = reading.inside_XK.sum(-1).to(entropy_X.dtype)
    teacher_entropy_X = None
    if isinstance(teacher, FromLogits):
        teacher_entropy_X = student.shaped(teacher.entropy_N)
    return SupportMetrics(
        student_mass=mass_X,
        teacher_mass=teacher_mass_X,
        student_entropy=entropy_X,
        teacher_entropy=teacher_entropy_X,
        top_k_overlap=_overlap(loss, student, teacher),
        support_size=size_X,
        coverage=coverage_X,
        log_ratio=truncated_X / mass_X.clamp(min=torch.finfo(mass_X.dtype).tiny),
        leak=_leak(mass_X),
        signal=signal_X,
        negative_share=(truncated_X < -_ROUNDING).to(entropy_X.dtype),
    )


def _leak(mass_X: Tensor) -> Tensor:
    """L1 norm of the logit gradient of a support's mass."""
    return (2 * mass_X * (1 - mass_X)).clamp(min=0)


def _overlap(loss: Divergence, student: FromLogits, teacher: LogProbSource) -> Tensor | None:
    """Share of the student's top-k that is in the teacher's; None if its list is too short."""
    k = loss.k or min(_OVERLAP_K, student.vocabulary)
    if isinstance(teacher, FromList) and teacher.shortest() < k:
        return None
    both_XK = torch.cat([student.top_ids(k), teacher.top_ids(k)], -1).sort(dim=-1).values
    return (both_XK[..., 1:] == both_XK[..., :-1]).sum(-1).to(student.logits_XV.dtype) / k
