"""The clipped policy gradient of written tokens, from log-probs and advantages alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from opcd_bench.distillation.losses import expressions
from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
from opcd_bench.errors import InvalidLoss


class Beside(NamedTuple):
    """What a loss may read beside the logits and the written ids; shapes (...), without gradient.

    ``sampler_logp``: nats, the written tokens' log-probs under the sampler. ``advantage``: what
    each token's reply was worth beside the others of its example.
    """

    sampler_logp: Tensor | None = None
    advantage: Tensor | None = None

    def part(self, part: slice) -> Beside:
        """Of some positions."""
        return Beside(*(None if value is None else value[part] for value in self))


class PolicyTerms(NamedTuple):
    """Per token: what to differentiate, what to log, and whether the clip took the gradient."""

    surrogate_X: Tensor
    divergence_X: Tensor
    clipped_X: Tensor


def policy_terms(
    loss: PolicyGradient, student_logp_X: Tensor, teacher_logp_X: Tensor | None, beside: Beside
) -> PolicyTerms:
    """The clipped policy gradient, from log-probs of the written tokens.

    ``teacher_logp_X``: for a loss with a KL. Raises InvalidLoss where what it needs is absent.
    """
    if beside.sampler_logp is None or beside.advantage is None:
        raise InvalidLoss(
            f"loss {loss.id} needs the sampler's log-prob of each written token and its response's "
            "advantage. Pass sampler_logp and advantage."
        )
    sampler_logp_X = beside.sampler_logp.detach().to(student_logp_X.dtype)
    advantage_X = beside.advantage.detach().to(student_logp_X.dtype)
    log_ratio_X = student_logp_X - sampler_logp_X
    ratio_X = log_ratio_X.clamp(max=80.0).exp()  # float32 ends near exp(88)
    high = 1.0 + (loss.clip if loss.clip_high is None else loss.clip_high)
    free_X = ratio_X * advantage_X
    held_X = ratio_X.clamp(1.0 - loss.clip, high) * advantage_X
    surrogate_X = -torch.minimum(free_X, held_X)
    divergence_X = expressions.k3(log_ratio_X.detach())
    if loss.kl:
        if teacher_logp_X is None:
            raise InvalidLoss(f"loss {loss.id} with kl={loss.kl} reads a teacher. Pass its logits.")
        k3_X = expressions.k3(student_logp_X - teacher_logp_X.detach())
        surrogate_X = surrogate_X + loss.kl * k3_X
        divergence_X = k3_X.detach()
    return PolicyTerms(surrogate_X, divergence_X, (held_X < free_X).detach())
