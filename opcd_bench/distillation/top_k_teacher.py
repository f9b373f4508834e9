"""A teacher behind vLLM: log-probs of the told reply on a list of ids, in place of logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.scoring import Pair
from opcd_bench.errors import DataError
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.rollout.vllm import Backend, PromptLogProbs, WeightSync

_EMPTY = -1
"""Id of an unused slot of a list."""


@dataclass(frozen=True)
class Listed:
    """A teacher's reading of replies, packed as ``scoring.HiddenStates`` packs them (N positions).

    ``ids_NL`` and ``logp_NL``: up to L listed ids a position (-1: unused slot) with their
    log-probs; ``own_logp_N``: of the reply's own tokens. Floats are float32, at temperature 1.
    ``likeliest``: whether the lists are the teacher's own choice, not the student's.
    """

    ids_NL: Tensor
    logp_NL: Tensor
    own_logp_N: Tensor
    likeliest: bool


class TopKTeacher:
    """A told teacher that vLLM scores, in process or served (LOSSES.md, section 1.5).

    ``vllm`` follows ``weights``, a frozen model in this process; or it is a server that holds its
    own (None). ``max_length`` is in tokens, of the vLLM.
    """

    def __init__(
        self, vllm: WeightSync | Backend, weights: LoadedModel | None, max_length: int
    ) -> None:
        self._follower = vllm if isinstance(vllm, WeightSync) else WeightSync(vllm)
        self._weights, self.max_length = weights, max_length

    @property
    def backend(self) -> Backend:
        """The vLLM, with the teacher's weights in it."""
        if self._weights is None:
            return self._follower.backend
        return self._follower.refresh(self._weights)

    @property
    def tier(self) -> str:
        """What it can give: I (any ids) or T (its own likeliest)."""
        return "I" if self._follower.backend.arbitrary_ids else "T"

    def assert_lists(self, loss: Divergence) -> None:
        """Raise ModelError at once where the backend lists fewer ids than the loss asks for."""
        self.backend.score([(0, 1)], loss.k or 0)

    def read(
        self,
        pairs: Sequence[Pair],
        loss: Divergence,
        student_top: Callable[[int], Tensor],
        device: torch.device,
    ) -> Listed:
        """The told reply of every pair, on the ids that the loss sums over.

        ``student_top(k)`` gives the student's likeliest ids, shape (N, k); it is asked only where
        the loss needs them and the backend can score them. Raises DataError for what is too long.
        """
        sequences = [(*pair.told_ids, *pair.reply_ids) for pair in pairs]
        if (longest := max(map(len, sequences))) >= self.max_length:
            raise DataError(
                f"a told prompt and reply of {longest} tokens leave no room in "
                f"{self._follower.backend.name},"
                f" which reads {self.max_length}; lower max_completion_length, or start it with a "
                "larger max_model_len"
            )
        lengths = [len(pair.reply_ids) for pair in pairs]
        k = loss.k or 0
        backend = self.backend
        if not (backend.arbitrary_ids and loss.teacher_needs == "I"):
            return self._packed(backend.score(sequences, k), lengths, device)
        rows = student_top(k).tolist()
        ends = torch.tensor(lengths).cumsum(0).tolist()
        asked = [rows[end - n : end] for end, n in zip(ends, lengths, strict=True)]
        chosen = self._packed(backend.score(sequences, 0, asked), lengths, device)
        if loss.support != "union":
            return dataclasses.replace(chosen, likeliest=False)
        own = self._packed(backend.score(sequences, k), lengths, device)
        return Listed(
            torch.cat([own.ids_NL, chosen.ids_NL], -1),
            torch.cat([own.logp_NL, chosen.logp_NL], -1),
            own.own_logp_N,
            likeliest=True,
        )

    def _packed(
        self, scored: Sequence[PromptLogProbs], lengths: Sequence[int], device: torch.device
    ) -> Listed:
        """The rows of the replies, one below the other."""
        replies = [one.last(n) for one, n in zip(scored, lengths, strict=True)]
        rows = [row for one in replies for row in one.ids]
        values = [row for one in replies for row in one.logps]
        width = max(map(len, rows))
        ids = [[*row, *[_EMPTY] * (width - len(row))] for row in rows]
        logps = [[*row, *[0.0] * (width - len(row))] for row in values]
        own = [value for one in replies for value in one.own]
        return Listed(
            torch.tensor(ids, device=device),
            torch.tensor(logps, device=device),
            torch.tensor(own, device=device),
            likeliest=True,
        )
