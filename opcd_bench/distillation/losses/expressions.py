"""Divergences over buckets of log-probs: what is differentiated, its slope, what is logged."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from opcd_bench.distillation.losses.divergence import Divergence

_SMALL = 0.01  # nats: below it the rounding of a sum of large terms would show
_K3_MAX_EXPONENT = 80.0  # exp of it is near float32's end; P(ratio beyond) is below e^-80


def surrogate(
    loss: Divergence,
    student_logp_XB: Tensor,
    teacher_logp_XB: Tensor,
    mixed_XB: Tensor | None = None,
) -> Tensor:
    """The expression that is differentiated, summed over the buckets, shape (...).

    ``mixed_XB``: what `mixture` gives, where it is there already.
    """
    if loss.direction == "reverse_kl":
        p_XB, ratio_XB = student_logp_XB.exp(), student_logp_XB - teacher_logp_XB
        if loss.gradient == "stop_gradient":
            ratio_XB = ratio_XB.detach()
        if loss.gradient == "stop_gradient_weight":
            p_XB = p_XB.detach()
        terms_XB = p_XB * ratio_XB
        if loss.outside == "generalised":
            terms_XB = terms_XB - p_XB + teacher_logp_XB.exp()
    elif loss.direction == "forward_kl":
        q_XB = teacher_logp_XB.exp()
        terms_XB = q_XB * (teacher_logp_XB - student_logp_XB)
        if loss.outside == "generalised":
            terms_XB = terms_XB - q_XB + student_logp_XB.exp()
    else:
        if mixed_XB is None:
            mixed_XB = mixture(loss, student_logp_XB, teacher_logp_XB)
        terms_XB = _mixture_terms(loss, student_logp_XB, teacher_logp_XB, mixed_XB)
    if loss.clip is not None:
        terms_XB = terms_XB.clamp(max=loss.clip)
    return terms_XB.sum(-1)


def _mixture_terms(
    loss: Divergence, student_logp_XB: Tensor, teacher_logp_XB: Tensor, mixed_XB: Tensor
) -> Tensor:
    """What JSD and the skewed KLs sum."""
    if loss.direction == "skew_reverse":
        return student_logp_XB.exp() * (student_logp_XB - mixed_XB)
    if loss.direction == "interpolated":
        return mixed_XB.exp() * (mixed_XB - student_logp_XB)
    teacher_terms_XB = teacher_logp_XB.exp() * (teacher_logp_XB - mixed_XB)
    if loss.direction == "skew_forward":
        return teacher_terms_XB
    assert loss.beta is not None
    student_terms_XB = student_logp_XB.exp() * (student_logp_XB - mixed_XB)
    return loss.beta * teacher_terms_XB + (1 - loss.beta) * student_terms_XB


def slope(loss: Divergence, student_logp_XV: Tensor, teacher_logp_XV: Tensor) -> Tensor:
    """Derivative by log p of the surrogate over the whole vocabulary, up to c p.

    Multiples of p drop out of the logit gradient ``slope - p sum(slope)``, shape (..., V). Of the
    reverse KL it is p (log p - log q), of the forward KL -q. Log-probs without gradient.
    """
    if loss.direction == "reverse_kl":
        return (student_logp_XV - teacher_logp_XV).mul_(student_logp_XV.exp())
    if loss.direction == "forward_kl":
        return teacher_logp_XV.exp().neg_()
    mixed_XV = mixture(loss, student_logp_XV, teacher_logp_XV)
    if loss.direction == "interpolated":
        return mixed_XV.exp().neg_()
    p_XV, ratio_XV = student_logp_XV.exp(), student_logp_XV - mixed_XV
    if loss.direction == "jsd":
        assert loss.beta is not None
        return p_XV.mul_(ratio_XV).mul_(1 - loss.beta)
    assert loss.alpha is not None
    if loss.direction == "skew_forward":
        return p_XV.mul_((teacher_logp_XV - mixed_XV).exp_()).mul_(loss.alpha - 1)
    return p_XV.mul_(ratio_XV.sub_(ratio_XV.exp(), alpha=loss.alpha))


@torch.no_grad()
def divergence(
    loss: Divergence,
    student_logp_XB: Tensor,
    teacher_logp_XB: Tensor,
    mixed_XB: Tensor | None = None,
) -> Tensor:
    """The honest non-negative value on the same buckets, shape (...)."""
    if loss.direction == "reverse_kl":
        return kl(student_logp_XB, teacher_logp_XB)
    if loss.direction == "forward_kl":
        value_X = kl(teacher_logp_XB, student_logp_XB)
        if loss.outside == "renormalise_teacher":  # undo the masses, of which only one is 1
            masses_X = teacher_logp_XB.exp().sum(-1) - student_logp_XB.exp().sum(-1)
            value_X = (value_X + masses_X).clamp(min=0)
        return value_X
    if mixed_XB is None:
        mixed_XB = mixture(loss, student_logp_XB, teacher_logp_XB)
    if loss.direction == "skew_forward":
        return kl(teacher_logp_XB, mixed_XB)
    if loss.direction == "skew_reverse":
        return kl(student_logp_XB, mixed_XB)
    if loss.direction == "interpolated":
        return kl(mixed_XB, student_logp_XB)
    assert loss.beta is not None
    both_XB = mixed_XB.exp()
    teacher_part_X = loss.beta * kl(teacher_logp_XB, mixed_XB, second_XB=both_XB)
    return teacher_part_X + (1 - loss.beta) * kl(student_logp_XB, mixed_XB, second_XB=both_XB)


def mixture(loss: Divergence, student_logp_XB: Tensor, teacher_logp_XB: Tensor) -> Tensor:
    """Log of the mixture M that JSD and the skewed KLs compare with.

    Of an interpolated KL the target, geometric and without gradient (arXiv 2501.16937, Eq. 4).
    """
    if loss.direction == "interpolated":
        assert loss.alpha is not None
        between_XB = torch.lerp(student_logp_XB.detach(), teacher_logp_XB, loss.alpha)
        return between_XB - between_XB.logsumexp(-1, keepdim=True)
    if loss.direction == "jsd":
        assert loss.beta is not None
        teacher_weight = loss.beta
    else:
        assert loss.alpha is not None
        teacher_weight = loss.alpha if loss.direction == "skew_forward" else 1 - loss.alpha
    return torch.logaddexp(
        teacher_logp_XB + math.log(teacher_weight),
        student_logp_XB + math.log1p(-teacher_weight),
    )


@torch.no_grad()
def kl(
    first_logp_XB: Tensor,
    second_logp_XB: Tensor,
    first_XB: Tensor | None = None,
    second_XB: Tensor | None = None,
) -> Tensor:
    """Generalised KL(a||b) = sum a log(a/b) - a + b: the KL where both masses are equal.

    Every term is non-negative. Where the sum is small, terms near a = b are summed in a form that
    keeps the digits that a log(a/b) - a + b loses; the clamp is for rounding only. ``first_XB`` and
    ``second_XB``: the exponentials, where they are there already.
    """
    a_XB = first_logp_XB.exp() if first_XB is None else first_XB
    b_XB = second_logp_XB.exp() if second_XB is None else second_XB
    value_X = (first_logp_XB - second_logp_XB).mul_(a_XB).sum(-1) + (b_XB.sum(-1) - a_XB.sum(-1))
    small_X = value_X < _SMALL
    if bool(small_X.any()):
        value_X[small_X] = _small_kl(first_logp_XB[small_X], second_logp_XB[small_X])
    return value_X


def _small_kl(first_logp_XB: Tensor, second_logp_XB: Tensor) -> Tensor:
    a_XB, ratio_XB = first_logp_XB.exp(), first_logp_XB - second_logp_XB
    near_XB = a_XB * (ratio_XB + torch.expm1(-ratio_XB))
    far_XB = a_XB * ratio_XB - a_XB + second_logp_XB.exp()
    return torch.where(ratio_XB.abs() < 0.5, near_XB, far_XB).sum(-1).clamp(min=0)


def k3(ratio: Tensor) -> Tensor:
    """exp(-l) - 1 + l, non-negative, whose mean over y ~ p is the reverse KL."""
    return torch.expm1(-ratio.clamp(min=-_K3_MAX_EXPONENT)) + ratio.clamp(min=-_K3_MAX_EXPONENT)
