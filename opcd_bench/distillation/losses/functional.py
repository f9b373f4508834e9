"""Per-token distillation losses as pure tensor functions: what to differentiate, what to log.

No function here reduces, masks or pads: a chunk of positions is as good as a batch. Gradients
reach the student's logits alone. Sources of the formulas: arXiv 2602.12275 (Eq. 1, reverse KL on
the student's top-k), arXiv 2605.11182 (stop-gradient and tail variants), arXiv 2306.13649 (JSD),
arXiv 2402.03898 (skew KL), http://joschu.net/blog/kl-approx.html (k1, k2, k3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from opcd_bench.distillation.losses import expressions, whole
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.policy import Beside, policy_terms
from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
from opcd_bench.distillation.losses.sources import FromList, FromLogits, LogProbSource
from opcd_bench.distillation.losses.supports import EMPTY, SupportLogProbs, log_probs_on_support
from opcd_bench.distillation.losses.whole import Whole
from opcd_bench.errors import InvalidLoss


class TokenLoss(NamedTuple):
    """Two values per token, in nats."""

    surrogate: Tensor
    """Carries the gradient; its value may be negative and means nothing by itself."""
    divergence: Tensor
    """Detached and non-negative: what `Divergence.metric` names."""


def token_loss(
    loss: Divergence | PolicyGradient | Callable[..., TokenLoss],
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    reply_ids: Tensor,
    *,
    sampler_logp: Tensor | None = None,
    advantage: Tensor | None = None,
) -> TokenLoss:
    """The two per-token values of any loss, from both models' logits.

    Args:
        loss: a `Divergence`, a `PolicyGradient`, or a contributor's callable of the three tensors
            below.
        student_logits: shape (..., V), with gradient.
        teacher_logits: shape (..., V), detached here; None where `teacher_needs` is `none`.
        reply_ids: shape (...), the written tokens, aligned: logits at a position predict them.
        sampler_logp: shape (...), nats, the written tokens' log-probs under the sampler; only for
            `importance_weight` and for policy gradients.
        advantage: shape (...), of each token's reply; only for policy gradients.

    Returns:
        `TokenLoss(surrogate, divergence)`, shapes (...), nats; differentiate the first, log the
        second. float32, or float64 where the student's logits are.

    Raises:
        InvalidLoss: k is above the vocabulary, something that the loss needs is absent, or a
            callable returns something else.

    """
    if not isinstance(loss, Divergence | PolicyGradient):
        return contributed(loss, student_logits, teacher_logits, reply_ids)
    check_shapes(student_logits, teacher_logits, reply_ids)
    if isinstance(loss, PolicyGradient):
        reads = teacher_logits is not None and loss.kl > 0
        teacher = FromLogits(teacher_logits, teacher=True) if reads else None  # type: ignore[arg-type]
        beside = Beside(sampler_logp, advantage)
        return rewarded(loss, FromLogits(student_logits), teacher, reply_ids, beside)[0]
    teacher = teacher_of(loss, teacher_logits)
    return evaluate(loss, FromLogits(student_logits), teacher, reply_ids, sampler_logp).loss


def contributed(
    loss: Callable[..., TokenLoss],
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    reply_ids: Tensor,
) -> TokenLoss:
    """The two values of a contributor's callable; InvalidLoss where it returns something else.

    A value of another shape would be broadcast, and something else trained than its file says.
    """
    found: Any = loss(student_logits, teacher_logits, reply_ids)
    if not (isinstance(found, tuple) and len(found) == 2):
        raise InvalidLoss(
            f"the loss returned a {type(found).__name__}; return TokenLoss(surrogate, divergence)"
        )
    for name, value in zip(TokenLoss._fields, found, strict=True):
        if not isinstance(value, Tensor) or value.shape != reply_ids.shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InvalidLoss(
                f"{name} has shape {shape}, not that of the written ids, "
                f"{tuple(reply_ids.shape)}; a loss never reduces and sees no mask"
            )
    surrogate, divergence = found
    if student_logits.requires_grad and not surrogate.requires_grad:
        raise InvalidLoss("the surrogate carries no gradient to the student's logits")
    return TokenLoss(surrogate, divergence)


def metric_of(loss: object) -> str:
    """What the second value of a loss is called in logs: ``divergence`` for a contributor's own."""
    return str(getattr(loss, "metric", "divergence"))


def rewarded(
    loss: PolicyGradient,
    student: FromLogits,
    teacher: LogProbSource | None,
    reply_ids_X: Tensor,
    beside: Beside,
) -> tuple[TokenLoss, Tensor]:
    """The two values of a policy gradient, and which tokens its clip left without a gradient."""
    teacher_logp_X = None
    if loss.kl and teacher is not None:
        teacher_logp_X = teacher.at(reply_ids_X.unsqueeze(-1)).logp_XK.squeeze(-1)
    terms = policy_terms(loss, at_reply(student, reply_ids_X), teacher_logp_X, beside)
    return TokenLoss(terms.surrogate_X, terms.divergence_X), terms.clipped_X


def from_support(
    loss: Divergence,
    student_logits: Tensor,
    support_ids: Tensor,
    teacher_logp: Tensor,
    reply_ids: Tensor,
    *,
    reply_teacher_logp: Tensor | None = None,
    sampler_logp: Tensor | None = None,
) -> TokenLoss:
    """The two per-token values from log-probs that the teacher gave on some ids.

    The support is still chosen by the loss: the k likeliest of the list (teacher top-k), the
    student's own top-k looked up in the list, or both; what the list lacks falls to `missing_ids`.

    Args:
        loss: what is computed.
        student_logits: shape (..., V), with gradient.
        support_ids: shape (..., L), ids that the teacher scored; negative: an empty slot.
        teacher_logp: shape (..., L), nats, at temperature 1.
        reply_ids: shape (...), the written tokens.
        reply_teacher_logp: shape (...), nats, where the written token may be absent from the list.
        sampler_logp: as in `token_loss`.

    Raises:
        InvalidLoss: the list cannot serve this loss.

    """
    student, teacher = listed(
        loss, student_logits, support_ids, teacher_logp, reply_ids, reply_teacher_logp
    )
    return evaluate(loss, student, teacher, reply_ids, sampler_logp).loss


class Evaluated(NamedTuple):
    """A loss, with what was read for it."""

    loss: TokenLoss
    reading: SupportLogProbs | None
    whole: Whole | None


def evaluate(
    loss: Divergence,
    student: FromLogits,
    teacher: LogProbSource | None,
    reply_ids_X: Tensor,
    sampler_logp_X: Tensor | None,
    seen: Whole | None = None,
) -> Evaluated:
    """Put the pieces together: an exact sum on the support, a sampled term, or both.

    ``seen``: both models, where they have been compared.
    """
    if teacher is None:
        nll_X = -at_reply(student, reply_ids_X)
        return Evaluated(TokenLoss(nll_X, nll_X.detach()), None, seen)
    if loss.support == "full":
        assert isinstance(teacher, FromLogits)
        return _on_everything(loss, student, teacher, reply_ids_X, seen)
    if loss.outside == "leak":
        assert isinstance(teacher, FromLogits)
        return _leaking(loss, student, teacher, reply_ids_X)
    reading = log_probs_on_support(loss, student, teacher, reply_ids_X)
    if loss.estimator != "exact":
        out = _estimated(loss, student, teacher, reading, sampler_logp_X, seen)
        return Evaluated(out, reading, seen)
    student_logp_XB, teacher_logp_XB = _buckets(loss, reading)
    surrogate_X = expressions.surrogate(loss, student_logp_XB, teacher_logp_XB)
    divergence_X = expressions.divergence(loss, student_logp_XB.detach(), teacher_logp_XB)
    if loss.gradient == "score_function":  # the prefix-only scalar, a control
        surrogate_X = surrogate_X.detach() * reading.reply_logp_X
    if loss.outside == "sampled":
        in_support_X = ((reading.ids_XK == reply_ids_X.unsqueeze(-1)) & reading.inside_XK).any(-1)
        student_logp_X = reading.reply_logp_X
        teacher_logp_X = _teacher_at_reply(loss, teacher, reply_ids_X, ~in_support_X)
        ratio_X = student_logp_X.detach() - teacher_logp_X
        weight_X = ~in_support_X * _importance(loss, student_logp_X, sampler_logp_X)
        surrogate_X = surrogate_X + weight_X * ratio_X * student_logp_X
        divergence_X = divergence_X + weight_X * expressions.k3(ratio_X)
    return Evaluated(TokenLoss(surrogate_X, divergence_X), reading, seen)


def _on_everything(
    loss: Divergence,
    student: FromLogits,
    teacher: FromLogits,
    reply_ids_X: Tensor,
    seen: Whole | None,
) -> Evaluated:
    """A loss over the whole vocabulary."""
    if whole.in_closed_form(loss):
        seen = whole.whole_loss(loss, student, teacher)
        out = TokenLoss(student.shaped(seen.surrogate_N), student.shaped(seen.divergence_N))
        return Evaluated(out, None, seen)
    student_logp_XV, teacher_logp_XV = student.everywhere(), teacher.everywhere()
    surrogate_X = expressions.surrogate(loss, student_logp_XV, teacher_logp_XV)
    divergence_X = expressions.divergence(loss, student_logp_XV.detach(), teacher_logp_XV)
    if loss.gradient == "score_function":  # the prefix-only scalar, a control
        surrogate_X = surrogate_X.detach() * at_reply(student, reply_ids_X)
    return Evaluated(TokenLoss(surrogate_X, divergence_X), None, seen)


def _leaking(
    loss: Divergence, student: FromLogits, teacher: FromLogits, reply_ids_X: Tensor
) -> Evaluated:
    """The full reverse KL, and beside it the gradient of the student's mass on the support."""
    seen = whole.whole_loss(whole.REVERSE_KL, student, teacher)
    reading = log_probs_on_support(loss, student, teacher, reply_ids_X)
    mass_X = reading.student_logp_XK.exp().sum(-1)
    surrogate_X = student.shaped(seen.surrogate_N) + mass_X - mass_X.detach()
    return Evaluated(TokenLoss(surrogate_X, student.shaped(seen.divergence_N)), reading, seen)


def _estimated(
    loss: Divergence,
    student: FromLogits,
    teacher: LogProbSource,
    reading: SupportLogProbs,
    sampler_logp_X: Tensor | None,
    seen: Whole | None,
) -> TokenLoss:
    """Losses of the written token's log-ratio l = log p(y) - log q(y) alone."""
    student_logp_X = reading.student_logp_XK.squeeze(-1)
    ratio_X = student_logp_X - reading.teacher_logp_XK.squeeze(-1)
    weight_X = _importance(loss, student_logp_X, sampler_logp_X)
    divergence_X = weight_X * expressions.k3(ratio_X.detach())
    if loss.estimator == "k3":
        value_X = expressions.k3(ratio_X)
    else:
        value_X = ratio_X if loss.estimator == "k1" else ratio_X.square() / 2
    if loss.gradient == "through":
        return TokenLoss(value_X, divergence_X)
    baseline: float | Tensor
    if loss.baseline == "reverse_kl":
        assert isinstance(teacher, FromLogits)
        seen = seen or whole.compared(student, teacher)
        baseline = student.shaped(seen.reverse_kl_N)
    else:
        baseline = float(loss.baseline)
    coefficient_X = (value_X.detach() - baseline) * weight_X
    return TokenLoss(coefficient_X * student_logp_X, divergence_X)


def _buckets(loss: Divergence, reading: SupportLogProbs) -> tuple[Tensor, Tensor]:
    """Log-probs of both models on the buckets that the divergence compares."""
    student_logp_XB, teacher_logp_XB = reading.student_logp_XK, reading.teacher_logp_XK
    if loss.outside == "tail":
        assert reading.student_log_tail_X is not None and reading.teacher_log_tail_X is not None
        student_logp_XB = torch.cat([student_logp_XB, reading.student_log_tail_X[..., None]], -1)
        teacher_logp_XB = torch.cat([teacher_logp_XB, reading.teacher_log_tail_X[..., None]], -1)
    if loss.outside == "renormalise":
        student_logp_XB = _renormalised(student_logp_XB, reading.inside_XK)
    if loss.outside in ("renormalise", "renormalise_teacher"):
        teacher_logp_XB = _renormalised(teacher_logp_XB, reading.inside_XK)
    return student_logp_XB, teacher_logp_XB


def _renormalised(logp_XK: Tensor, inside_XK: Tensor) -> Tensor:
    """Log-probs divided by their mass; an empty support stays empty: it has no mass to spread."""
    return torch.where(inside_XK, logp_XK - logp_XK.logsumexp(-1, keepdim=True), EMPTY)


def _importance(
    loss: Divergence, student_logp_X: Tensor, sampler_logp_X: Tensor | None
) -> float | Tensor:
    """p(y) / sampler(y), detached, or 1 where the loss has no weight."""
    if not loss.importance_weight:
        return 1.0
    if sampler_logp_X is None:
        raise InvalidLoss(
            f"loss {loss.id} with importance_weight=True needs the sampler's log-prob of each "
            "written token. Pass sampler_logp, or write importance_weight=False."
        )
    return (student_logp_X.detach() - sampler_logp_X.detach().to(student_logp_X.dtype)).exp()


def at_reply(student: FromLogits, reply_ids_X: Tensor) -> Tensor:
    """The log-prob of the written token, shape (...)."""
    return student.at(reply_ids_X.unsqueeze(-1)).logp_XK.squeeze(-1)


def _teacher_at_reply(
    loss: Divergence, teacher: LogProbSource, reply_ids_X: Tensor, needed_X: Tensor
) -> Tensor:
    """The teacher's log-prob of the written token, refused where it is needed and unknown."""
    logp_XK, known_XK = teacher.at(reply_ids_X.unsqueeze(-1))
    if bool((needed_X & ~known_XK.squeeze(-1)).any()):
        raise InvalidLoss(
            f"loss {loss.id} needs the teacher's log-prob of every written token outside the "
            "support, which its list lacks. Pass reply_teacher_logp."
        )
    return logp_XK.squeeze(-1)


def teacher_of(loss: Divergence, teacher_logits: Tensor | None) -> FromLogits | None:
    """The teacher as a loss asks it; None where the loss reads none."""
    if loss.teacher_needs == "none":
        return None
    if teacher_logits is None:
        raise InvalidLoss(f"loss {loss.id} reads a teacher. Pass teacher_logits.")
    return FromLogits(teacher_logits, teacher=True)


def listed(
    loss: Divergence,
    student_logits: Tensor,
    ids_XL: Tensor,
    logp_XL: Tensor,
    reply_ids_X: Tensor,
    reply_teacher_logp: Tensor | None,
) -> tuple[FromLogits, FromList | None]:
    """The student, and a teacher's list wrapped; None where the loss reads no teacher."""
    check_shapes(student_logits, None, reply_ids_X)
    student = FromLogits(student_logits)
    if loss.teacher_needs == "none":
        return student, None
    if loss.teacher_needs == "F":
        raise InvalidLoss(
            f"loss {loss.id} needs the teacher's whole distribution and got log-probs on a list. "
            "Use a loss on support='teacher_top_k' or 'sampled', or call it with logits."
        )
    if ids_XL.shape != logp_XL.shape or ids_XL.shape[:-1] != reply_ids_X.shape:
        raise ValueError(
            f"support_ids {tuple(ids_XL.shape)}, teacher_logp {tuple(logp_XL.shape)} and reply_ids "
            f"{tuple(reply_ids_X.shape)} must be (..., L), (..., L) and (...)"
        )
    vocabulary, dtype = student.vocabulary, student.logits_XV.dtype
    return student, FromList(ids_XL, logp_XL, vocabulary, reply_ids_X, reply_teacher_logp, dtype)


def check_shapes(student_logits: Tensor, teacher_logits: Tensor | None, reply_ids: Tensor) -> None:
    """Refuse what would broadcast into nonsense."""
    if student_logits.shape[:-1] != reply_ids.shape:
        raise ValueError(
            f"student_logits {tuple(student_logits.shape)} and reply_ids {tuple(reply_ids.shape)} "
            "must be (..., V) and (...)"
        )
    if teacher_logits is not None and teacher_logits.shape != student_logits.shape:
        raise ValueError(
            f"teacher_logits {tuple(teacher_logits.shape)} and student_logits "
            f"{tuple(student_logits.shape)} differ in shape: one vocabulary, one alignment"
        )
