"""Log-probs of both models on the token set that a loss sums over, and on the mass outside it.

A teacher is read either from its logits or from a list of log-probs; both answer the same three
questions (its likeliest ids, log-probs at given ids, log-mass outside given ids).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.errors import InvalidLoss

LOG_PROB_FLOOR = -100.0
"""Log-prob (nats) given to what a model holds impossible; exp of it underflows float32."""
_MASKED = -1e4  # no finite gap of real logits comes near; masks (-inf, the dtype's minimum) pass it
EMPTY = -1e4
"""Log-prob of an unused slot: its probability is exactly 0 in both models."""


class Known(NamedTuple):
    """Log-probs at asked ids, and which of them the model really gave."""

    logp_XK: Tensor
    known_XK: Tensor


class SupportLogProbs(NamedTuple):
    """Both models on one support; X stands for the leading axes, K for the slots.

    Unused slots (duplicates, dropped ids) have `inside_XK` False and probability 0 in both models.
    """

    ids_XK: Tensor
    inside_XK: Tensor
    student_logp_XK: Tensor
    teacher_logp_XK: Tensor
    student_log_tail_X: Tensor | None
    teacher_log_tail_X: Tensor | None
    coverage_X: Tensor
    """Share of the ids that the loss asked for whose teacher log-prob is known."""


class LogProbSource(Protocol):
    """What a loss asks of a model at every position."""

    def top_ids(self, k: int) -> Tensor:
        """Ids of its k likeliest tokens, shape (..., k); exactly k, whatever ties there are."""

    def at(self, ids_XK: Tensor) -> Known:
        """Log-probs of the given ids."""

    def log_tail(self, ids_XK: Tensor, inside_XK: Tensor, logp_XK: Tensor) -> Tensor:
        """Log of the mass outside the ids that are inside."""


def accumulation(logits: Tensor) -> Tensor:
    """Return the logits in the type that sums are made in: float64 kept, all else float32."""
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


class FromLogits:
    """A model read from its logits; keeps no second vocabulary-sized buffer for the backward."""

    def __init__(self, logits_XV: Tensor, *, teacher: bool = False) -> None:
        self.logits_XV = accumulation(logits_XV.detach() if teacher else logits_XV)
        self.log_total_X = self.logits_XV.logsumexp(-1)
        self.teacher = teacher

    def _floored(self, logp: Tensor) -> Tensor:
        if self.teacher:
            return logp.clamp(min=LOG_PROB_FLOOR)
        # not a clamp: that would stop the gradient of a token that is merely unlikely
        return torch.where(logp < _MASKED, LOG_PROB_FLOOR, logp)

    def everywhere(self) -> Tensor:
        """Log-probs of the whole vocabulary, shape (..., V)."""
        return self._floored(self.logits_XV - self.log_total_X.unsqueeze(-1))

    def top_ids(self, k: int) -> Tensor:
        """Ids of the k likeliest tokens, shape (..., k); a tie at the end does not add one."""
        vocabulary = self.logits_XV.shape[-1]
        if k > vocabulary:
            raise InvalidLoss(
                f"k={k} is above the vocabulary of {vocabulary} tokens. "
                f"Write k={vocabulary} or less, or support='full'."
            )
        return self.logits_XV.detach().topk(k, dim=-1, sorted=False).indices

    def at(self, ids_XK: Tensor) -> Known:
        """Log-probs at the ids, floored; all of them are known."""
        logp_XK = self.logits_XV.gather(-1, ids_XK) - self.log_total_X.unsqueeze(-1)
        return Known(self._floored(logp_XK), torch.ones_like(ids_XK, dtype=torch.bool))

    def log_tail(self, ids_XK: Tensor, inside_XK: Tensor, logp_XK: Tensor) -> Tensor:
        """Log-mass outside the ids, from the logits there: 1 - P_S would cancel."""
        outside_X: Tensor = _LogSumExpOutside.apply(self.logits_XV, ids_XK, inside_XK)  # type: ignore[no-untyped-call]
        return self._floored(outside_X - self.log_total_X)


class FromList:
    """A teacher that gave log-probs on some ids only (a served one)."""

    def __init__(
        self,
        ids_XL: Tensor,
        logp_XL: Tensor,
        vocabulary: int,
        reply_ids_X: Tensor,
        reply_logp_X: Tensor | None,
        dtype: torch.dtype,
    ) -> None:
        self.vocabulary, self.dtype = vocabulary, dtype
        self.listed = self._sorted(ids_XL, logp_XL.detach().to(dtype))
        self.table = self.listed
        if reply_logp_X is not None:
            self.table = self._sorted(
                torch.cat([self.listed[0], reply_ids_X.unsqueeze(-1)], -1),
                torch.cat([self.listed[1], reply_logp_X.detach().to(dtype).unsqueeze(-1)], -1),
            )
        valid_XL = self.listed[0] < vocabulary
        self.floor_X = self.listed[1].masked_fill(~valid_XL, math.inf).amin(-1)

    def _sorted(self, ids_XL: Tensor, logp_XL: Tensor) -> tuple[Tensor, Tensor]:
        """Sort by id; empty slots and duplicates become id V with log-prob -inf, at the end."""
        absent = self.vocabulary
        for _ in range(2):  # the second pass moves what the first one emptied to the end
            ids_XL = torch.where((ids_XL < 0) | (ids_XL >= absent), absent, ids_XL)
            ids_XL, order = ids_XL.sort(dim=-1, stable=True)
            logp_XL = logp_XL.gather(-1, order)
            ids_XL = ids_XL.masked_fill(_repeats(ids_XL), absent)
        return ids_XL, logp_XL.masked_fill(ids_XL == absent, -math.inf)

    def shortest(self) -> int:
        """How many ids the list has where it has fewest."""
        ids_XL = self.listed[0]
        return int((ids_XL < self.vocabulary).sum(-1).amin()) if ids_XL.numel() else 0

    def top_ids(self, k: int) -> Tensor:
        """Ids of the k likeliest tokens of the list."""
        ids_XL, logp_XL = self.listed
        given = self.shortest()
        if ids_XL.numel() and given < k:
            raise InvalidLoss(
                f"k={k}, and the teacher's list has {given} tokens at some position. "
                f"Write k={max(given, 1)} or less, or ask the teacher for {k}."
            )
        # a masked token listed with -inf must still come before an empty slot
        score_XL = logp_XL.clamp(min=2 * LOG_PROB_FLOOR).masked_fill(
            ids_XL == self.vocabulary, -math.inf
        )
        return ids_XL.gather(-1, score_XL.topk(k, dim=-1, sorted=False).indices)

    def at(self, ids_XK: Tensor) -> Known:
        """Log-probs at the ids, floored, and which of them the list (or the reply) gave."""
        ids_XL, logp_XL = self.table
        slot_XK = torch.searchsorted(ids_XL.contiguous(), ids_XK.contiguous())
        slot_XK = slot_XK.clamp(max=ids_XL.shape[-1] - 1)
        known_XK = ids_XL.gather(-1, slot_XK) == ids_XK
        logp_XK = logp_XL.gather(-1, slot_XK).clamp(min=LOG_PROB_FLOOR)
        return Known(logp_XK, known_XK)

    def log_tail(self, ids_XK: Tensor, inside_XK: Tensor, logp_XK: Tensor) -> Tensor:
        """Log of one minus the mass of the ids: all that a list can tell."""
        inside_logp_XK = logp_XK.masked_fill(~inside_XK, -math.inf)
        log_inside_X = inside_logp_XK.logsumexp(-1)
        nothing_left_X = inside_XK.sum(-1) >= self.vocabulary
        log_tail_X = _log1mexp(log_inside_X)
        return log_tail_X.masked_fill(nothing_left_X, LOG_PROB_FLOOR).clamp(min=LOG_PROB_FLOOR)


def log_probs_on_support(
    loss: Divergence, student: FromLogits, teacher: LogProbSource, reply_ids_X: Tensor
) -> SupportLogProbs:
    """Choose the support of a top-k or sampled loss and read both models on it.

    Raises:
        InvalidLoss: k does not fit, or the teacher lacks ids and `loss.missing_ids` is `refuse`.

    """
    with torch.no_grad():
        ids_XK, inside_XK = _choose(loss, student, teacher, reply_ids_X)
        teacher_logp_XK, known_XK = teacher.at(ids_XK)
        lacking_XK = inside_XK & ~known_XK
        asked_X = inside_XK.sum(-1)
        coverage_X = 1 - lacking_XK.sum(-1) / asked_X.clamp(min=1)
        teacher_logp_XK, inside_XK = _fill(loss, teacher, teacher_logp_XK, inside_XK, lacking_XK)
        teacher_logp_XK = torch.where(inside_XK, teacher_logp_XK, EMPTY)
    own_logp_XK = student.at(ids_XK).logp_XK
    tails: list[Tensor | None] = [None, None]
    if loss.outside == "tail":
        tails = [
            student.log_tail(ids_XK, inside_XK, own_logp_XK),
            teacher.log_tail(ids_XK, inside_XK, teacher_logp_XK),
        ]
    own_logp_XK = torch.where(inside_XK, own_logp_XK, EMPTY)
    return SupportLogProbs(
        ids_XK, inside_XK, own_logp_XK, teacher_logp_XK, tails[0], tails[1], coverage_X
    )


def _choose(
    loss: Divergence, student: FromLogits, teacher: LogProbSource, reply_ids_X: Tensor
) -> tuple[Tensor, Tensor]:
    """Ids of the support, with which slots count: no id counts twice."""
    if loss.support == "sampled":
        ids_XK = reply_ids_X.unsqueeze(-1)
        return ids_XK, torch.ones_like(ids_XK, dtype=torch.bool)
    assert loss.k is not None
    if loss.support == "student_top_k":
        ids_XK = student.top_ids(loss.k)
        return ids_XK, torch.ones_like(ids_XK, dtype=torch.bool)
    if loss.support == "teacher_top_k":
        ids_XK = teacher.top_ids(loss.k)
        return ids_XK, torch.ones_like(ids_XK, dtype=torch.bool)
    if loss.support == "teacher_top_k_and_sampled":
        parts = [teacher.top_ids(loss.k), reply_ids_X.unsqueeze(-1)]
    else:
        parts = [student.top_ids(loss.k), teacher.top_ids(loss.k)]
    ids_XK = torch.cat(parts, -1).sort(dim=-1).values
    repeats_XK = _repeats(ids_XK)
    return ids_XK, repeats_XK if loss.support == "intersection" else ~repeats_XK


def _fill(
    loss: Divergence, teacher: LogProbSource, logp_XK: Tensor, inside_XK: Tensor, lacking_XK: Tensor
) -> tuple[Tensor, Tensor]:
    """Apply the missing-id policy; never with anything of the student's."""
    if not isinstance(teacher, FromList) or not bool(lacking_XK.any()):
        return logp_XK, inside_XK
    if loss.missing_ids == "drop":
        return logp_XK, inside_XK & ~lacking_XK
    if loss.missing_ids == "floor":
        floor_XK = teacher.floor_X.clamp(min=LOG_PROB_FLOOR).unsqueeze(-1)
        return torch.where(lacking_XK, floor_XK, logp_XK), inside_XK
    if loss.support in ("sampled", "teacher_top_k_and_sampled"):
        raise InvalidLoss(
            f"loss {loss.id} needs the teacher's log-prob of the written token, which its list "
            "lacks at some position. Pass reply_teacher_logp."
        )
    raise InvalidLoss(
        f"loss {loss.id} on support={loss.support!r} needs {int(lacking_XK.sum())} log-probs that "
        "the teacher's list lacks. Ask the teacher at those ids, or name a policy: "
        "missing_ids='drop' or 'floor'."
    )


def _repeats(sorted_ids_XK: Tensor) -> Tensor:
    """Mark each id that equals its left neighbour."""
    same_XK = sorted_ids_XK[..., 1:] == sorted_ids_XK[..., :-1]
    return torch.cat([torch.zeros_like(sorted_ids_XK[..., :1], dtype=torch.bool), same_XK], -1)


def _log1mexp(log_mass: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0; a mass within rounding of 1 leaves one rounding unit."""
    x = log_mass.clamp(max=-torch.finfo(log_mass.dtype).eps)
    return torch.where(x > -math.log(2), (-x.expm1()).log(), (-x.exp()).log1p())


class _LogSumExpOutside(torch.autograd.Function):
    """logsumexp over the ids outside a set, exact where 1 - P_S would cancel.

    A masked copy of the logits lives only inside each pass: autograd's own logsumexp would keep it.
    """

    @staticmethod
    def forward(ctx: Any, logits_XV: Tensor, ids_XK: Tensor, inside_XK: Tensor) -> Tensor:
        within_XV = _marks(logits_XV, ids_XK, inside_XK)
        total_X = logits_XV.masked_fill(within_XV, -math.inf).logsumexp(-1)
        ctx.save_for_backward(logits_XV, ids_XK, inside_XK, total_X)
        return total_X

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        logits_XV, ids_XK, inside_XK, total_X = ctx.saved_tensors
        nothing_X = total_X == -math.inf
        share_XV = (logits_XV - total_X.masked_fill(nothing_X, 0.0).unsqueeze(-1)).exp_()
        share_XV = share_XV.masked_fill_(_marks(logits_XV, ids_XK, inside_XK), 0.0)
        scale_X = grads[0].masked_fill(nothing_X, 0.0)
        return share_XV.mul_(scale_X.unsqueeze(-1)), None, None


def _marks(logits_XV: Tensor, ids_XK: Tensor, inside_XK: Tensor) -> Tensor:
    """Which vocabulary entries are in the set, shape (..., V), bool."""
    vocabulary = logits_XV.shape[-1]
    shape = (*logits_XV.shape[:-1], vocabulary + 1)  # the extra column takes the unused slots
    marks = torch.zeros(shape, dtype=torch.bool, device=logits_XV.device)
    return marks.scatter_(-1, ids_XK.masked_fill(~inside_XK, vocabulary), True)[..., :-1]
