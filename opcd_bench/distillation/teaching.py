"""A teacher's reading of a micro-batch, however it is had: logits, a list of log-probs, or none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from opcd_bench.distillation import scoring
from opcd_bench.distillation.losses import functional
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.functional import TokenLoss
from opcd_bench.distillation.method import Loss
from opcd_bench.distillation.top_k_teacher import Listed
from opcd_bench.models.loaded import LoadedModel

_FULL = Divergence(direction="reverse_kl")

Metrics = dict[str, Tensor]


class Reading(Protocol):
    """What a loss is computed against, a chunk of reply positions (X of N) at a time."""

    def loss(
        self,
        loss: Loss,
        student_XV: Tensor,
        reply_X: Tensor,
        part: slice,
        extra: Mapping[str, Tensor],
    ) -> tuple[TokenLoss, Metrics]:
        """The loss and its per-token diagnostics, on the student's logits over the temperature."""
        ...


class NoTeacher:
    """For losses that read none."""

    def loss(
        self,
        loss: Loss,
        student_XV: Tensor,
        reply_X: Tensor,
        part: slice,
        extra: Mapping[str, Tensor],
    ) -> tuple[TokenLoss, Metrics]:
        """The loss of the student alone, with its entropy."""
        out = functional.token_loss(loss, student_XV, None, reply_X, **extra)
        with torch.no_grad():
            logp_XV = student_XV.log_softmax(-1)
            return out, {"student_entropy": -(logp_XV.exp() * logp_XV).sum(-1)}


@dataclass(frozen=True)
class WholeTeacher:
    """A model in this process: its hidden states at the N reply positions, and so its logits."""

    teacher: LoadedModel
    states: scoring.HiddenStates
    temperature: float

    def loss(
        self,
        loss: Loss,
        student_XV: Tensor,
        reply_X: Tensor,
        part: slice,
        extra: Mapping[str, Tensor],
    ) -> tuple[TokenLoss, Metrics]:
        """The loss between two distributions; ``reverse_kl`` is the full one, whatever the loss.

        So the curves of different losses can be laid over each other.
        """
        with torch.no_grad():
            states_XH = self.states.states_NH[part]
            teacher_XV = scoring.logits(self.teacher, states_XH) / self.temperature
        out = functional.token_loss(loss, student_XV, teacher_XV, reply_X, **extra)
        with torch.no_grad():
            own_XV = student_XV.detach()
            reads = isinstance(loss, Divergence) and loss.teacher_needs != "none"
            coordinates: Any = loss if reads else _FULL
            values = functional.support_metrics(own_XV, teacher_XV, coordinates, reply_X)
            full_X = functional.token_loss(_FULL, own_XV, teacher_XV, reply_X).divergence
        return out, {**_known(values), "reverse_kl": full_X}


@dataclass(frozen=True)
class ListedReading:
    """A teacher that gave log-probs on some ids, at temperature 1 (vLLM)."""

    listed: Listed
    temperature: float

    def loss(
        self,
        loss: Loss,
        student_XV: Tensor,
        reply_X: Tensor,
        part: slice,
        extra: Mapping[str, Tensor],
    ) -> tuple[TokenLoss, Metrics]:
        """The loss on the list; the full reverse KL and the teacher's entropy stay unknown.

        Log-probs over the temperature are right up to a constant, which renormalised losses (the
        only ones that are let through at another temperature) take out.
        """
        assert isinstance(loss, Divergence)
        ids_XL, own_X = self.listed.ids_NL[part], self.listed.own_logp_N[part] / self.temperature
        logp_XL = self.listed.logp_NL[part] / self.temperature
        out = functional.from_support(
            loss, student_XV, ids_XL, logp_XL, reply_X, reply_teacher_logp=own_X, **extra
        )
        values = functional.support_metrics_from_support(
            student_XV.detach(), ids_XL, logp_XL, loss, reply_X, reply_teacher_logp=own_X
        )
        found = _known(values)
        if not self.listed.likeliest:
            found.pop("top_k_overlap", None)
        return out, found


def _known(values: functional.SupportMetrics) -> Metrics:
    return {key: value for key, value in values._asdict().items() if value is not None}
