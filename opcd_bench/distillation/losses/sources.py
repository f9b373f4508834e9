"""A model as a loss asks it: read from its logits, or from a list of log-probs.

Both answer the same three questions: its likeliest ids, log-probs at given ids, and the log-mass
outside given ids.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from opcd_bench.distillation.losses import logits
from opcd_bench.distillation.losses.logits import LOG_PROB_FLOOR
from opcd_bench.errors import InvalidLoss


class Known(NamedTuple):
    """Log-probs at asked ids, and which of them the model really gave."""

    logp_XK: Tensor
    known_XK: Tensor


class LogProbSource(Protocol):
    """What a loss asks of a model at every position."""

    def top_ids(self, k: int) -> Tensor:
        """Ids of its k likeliest tokens, shape (..., k); exactly k, whatever ties there are."""

    def at(self, ids_XK: Tensor) -> Known:
        """Log-probs of the given ids."""

    def log_tail(self, ids_XK: Tensor, inside_XK: Tensor, logp_XK: Tensor) -> Tensor:
        """Log of the mass outside the ids that are inside."""


class FromLogits:
    """A model read from its logits; what is asked twice is computed once.

    No second vocabulary-sized buffer is kept, for the backward pass or otherwise.
    """

    def __init__(self, logits_XV: Tensor, *, teacher: bool = False) -> None:
        self.logits_XV = logits.accumulation(logits_XV.detach() if teacher else logits_XV)
        self.vocabulary = self.logits_XV.shape[-1]
        self.rows_NV = self.logits_XV.reshape(-1, self.vocabulary)
        self.teacher = teacher
        self._top_ids: dict[int, Tensor] = {}

    @cached_property
    def total_N(self) -> Tensor:
        """Log-sum-exp of every row of `rows_NV`, without gradient."""
        return logits.totals(self.rows_NV)

    @cached_property
    def entropy_N(self) -> Tensor:
        """Entropy of every row of `rows_NV` in nats, without gradient."""
        return logits.entropies(self.rows_NV, self.total_N, teacher=self.teacher)

    def shaped(self, values_N: Tensor) -> Tensor:
        """Values of the rows in the shape of the positions, (N, …) -> (..., …)."""
        return values_N.reshape((*self.logits_XV.shape[:-1], *values_N.shape[1:]))

    def everywhere(self) -> Tensor:
        """Log-probs of the whole vocabulary, shape (..., V), through autograd."""
        return logits.floored(self.logits_XV.log_softmax(-1), teacher=self.teacher)

    def top_ids(self, k: int) -> Tensor:
        """Ids of the k likeliest tokens, shape (..., k); a tie at the end does not add one."""
        if k > self.vocabulary:
            raise InvalidLoss(
                f"k={k} is above the vocabulary of {self.vocabulary} tokens. "
                f"Write k={self.vocabulary} or less, or support='full'."
            )
        if k not in self._top_ids:
            self._top_ids[k] = self.shaped(logits.likeliest(self.rows_NV.detach(), k))
        return self._top_ids[k]

    def at(self, ids_XK: Tensor) -> Known:
        """Log-probs at the ids, floored; all of them are known."""
        logp_NK = logits.log_probs(self.rows_NV, self.total_N, _flat(ids_XK))
        logp_XK = self._floored(logp_NK)
        return Known(logp_XK, torch.ones_like(ids_XK, dtype=torch.bool))

    def at_and_tail(self, ids_XK: Tensor, inside_XK: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probs at the ids and the log-mass outside those inside, as 1 - P_S would cancel."""
        logp_NK, tail_N = logits.log_probs_and_tail(
            self.rows_NV, self.total_N, _flat(ids_XK), _flat(inside_XK)
        )
        return self._floored(logp_NK), self._floored(tail_N)

    def log_tail(self, ids_XK: Tensor, inside_XK: Tensor, logp_XK: Tensor) -> Tensor:
        """Log-mass outside the ids."""
        return self.at_and_tail(ids_XK, inside_XK)[1]

    def _floored(self, logp_N: Tensor) -> Tensor:
        return self.shaped(logits.floored(logp_N, teacher=self.teacher))


def _flat(values_XK: Tensor) -> Tensor:
    return values_XK.reshape(-1, values_XK.shape[-1])


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

    def _sorted(self, ids_XL: Tensor, logp_XL: Tensor) -> tuple[Tensor, Tensor]:
        """Sort by id; empty slots and duplicates become id V with log-prob -inf, at the end."""
        absent = self.vocabulary
        for _ in range(2):  # the second pass moves what the first one emptied to the end
            ids_XL = torch.where((ids_XL < 0) | (ids_XL >= absent), absent, ids_XL)
            ids_XL, order = ids_XL.sort(dim=-1, stable=True)
            logp_XL = logp_XL.gather(-1, order)
            ids_XL = ids_XL.masked_fill(repeats(ids_XL), absent)
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

    def floor(self, k: int | None) -> Tensor:
        """The smallest log-prob among its k likeliest ids (None: all that it lists), shape (...).

        No id that it lacks is likelier. A written token that a server lists beside the k likeliest
        (vLLM) does not lower it: an unlisted id may well be likelier than that one.
        """
        ids_XL, logp_XL = self.listed
        given_X1 = (ids_XL < self.vocabulary).sum(-1, keepdim=True)
        last_X1 = (given_X1 if k is None else given_X1.clamp(max=k)) - 1
        ranked_XL = logp_XL.sort(dim=-1, descending=True).values
        floor_X1 = ranked_XL.gather(-1, last_X1.clamp(min=0))
        return floor_X1.masked_fill(given_X1 == 0, 0.0).squeeze(-1)

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


def repeats(sorted_ids_XK: Tensor) -> Tensor:
    """Mark each id that equals its left neighbour."""
    same_XK = sorted_ids_XK[..., 1:] == sorted_ids_XK[..., :-1]
    return torch.cat([torch.zeros_like(sorted_ids_XK[..., :1], dtype=torch.bool), same_XK], -1)


def _log1mexp(log_mass: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0; a mass within rounding of 1 leaves one rounding unit."""
    x = log_mass.clamp(max=-torch.finfo(log_mass.dtype).eps)
    return torch.where(x > -math.log(2), (-x.expm1()).log(), (-x.exp()).log1p())
