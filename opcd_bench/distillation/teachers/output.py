"""What a teacher says of a micro-batch: logits, log-probs of a list, or nothing; loss included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from opcd_bench.distillation import scoring
from opcd_bench.distillation.losses import diagnostics
from opcd_bench.distillation.losses.diagnostics import Measured
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.policy import Beside
from opcd_bench.distillation.method import StepLoss
from opcd_bench.models.loaded import LoadedModel


class TeacherOutput(Protocol):
    """What a loss is computed against, a chunk of reply positions (X of N) at a time."""

    def loss(
        self,
        loss: StepLoss,
        student_XV: Tensor,
        reply_X: Tensor,
        part: slice,
        beside: Beside,
    ) -> Measured:
        """The loss and its per-token diagnostics, on the student's logits over the temperature.

        ``beside``: what else a loss may read of these positions.
        """
        ...

    def check_targets(self, target_N: Tensor) -> None:
        """Raise AssertionError unless the output is of these reply tokens, in this order."""
        ...


class NoOutput:
    """For losses that read no teacher."""

    def loss(
        self,
        loss: StepLoss,
        student_XV: Tensor,
        reply_X: Tensor,
        part: slice,
        beside: Beside,
    ) -> Measured:
        """The loss of the student alone, with its entropy."""
        return diagnostics.measured_alone(loss, student_XV, reply_X, beside)

    def check_targets(self, target_N: Tensor) -> None:
        """Nothing was scored, so nothing can be out of line."""


@dataclass(frozen=True)
class FullOutput:
    """The hidden states of a model in this process at the N reply positions, and so its logits."""

    teacher: LoadedModel
    states: scoring.HiddenStates
    temperature: float

    def loss(
        self,
        loss: StepLoss,
        student_XV: Tensor,
        reply_X: Tensor,
        part: slice,
        beside: Beside,
    ) -> Measured:
        """The loss between two distributions; ``reverse_kl`` is the full one, whatever the loss.

        So the curves of different losses can be laid over each other.
        """
        with torch.no_grad():
            teacher_XV = scoring.logits(self.teacher, self.states.states_NH[part], self.temperature)
        return diagnostics.measured(loss, student_XV, teacher_XV, reply_X, beside)

    def check_targets(self, target_N: Tensor) -> None:
        """Told and plain passes are of the same tokens."""
        if not torch.equal(target_N, self.states.target_N.to(target_N)):
            raise AssertionError("told and plain passes are not of the same reply tokens")


@dataclass(frozen=True)
class ListedOutput:
    """Log-probs at temperature 1 on some ids of each of the N reply positions (vLLM).

    ``ids_NL`` and ``logp_NL``: up to L listed ids a position (-1: unused slot) with their
    log-probs; ``own_logp_N``: of the reply's own tokens. Floats are float32. ``likeliest``: whether
    the lists are the teacher's own choice, not the student's. ``temperature`` is the loss's.
    """

    ids_NL: Tensor
    logp_NL: Tensor
    own_logp_N: Tensor
    likeliest: bool
    temperature: float

    def loss(
        self,
        loss: StepLoss,
        student_XV: Tensor,
        reply_X: Tensor,
        part: slice,
        beside: Beside,
    ) -> Measured:
        """The loss on the list; the full reverse KL and the teacher's entropy stay unknown.

        Log-probs over the temperature are right up to a constant, which renormalised losses (the
        only ones that are let through at another temperature) take out.
        """
        assert isinstance(loss, Divergence)
        ids_XL, own_X = self.ids_NL[part], self.own_logp_N[part] / self.temperature
        logp_XL = self.logp_NL[part] / self.temperature
        out = diagnostics.measured_from_support(
            loss,
            student_XV,
            ids_XL,
            logp_XL,
            reply_X,
            reply_teacher_logp=own_X,
            sampler_logp=beside.sampler_logp,
        )
        if not self.likeliest:
            out.metrics.pop("top_k_overlap", None)
        return out

    def check_targets(self, target_N: Tensor) -> None:
        """As many positions as there are reply tokens."""
        if len(target_N) != len(self.own_logp_N):
            raise AssertionError("the listed log-probs are not of the same reply tokens")
