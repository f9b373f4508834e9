"""A teacher behind vLLM: log-probs of the told reply on a list of ids, in place of logits."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence

import torch

from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.method import StepLoss
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.teachers.base import StudentPass, Unmoved
from opcd_bench.distillation.teachers.output import ListedOutput
from opcd_bench.errors import DataError, Diverged, ModelError
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.rollout.vllm import Backend, PromptLogProbs, WeightSync
from opcd_bench.rollout.vllm_probe import verify_order

_EMPTY = -1
"""Id of an unused slot of a list."""


class TopKTeacher(Unmoved):
    """A told teacher that vLLM scores, in process or served (docs/guides/engines.md).

    ``vllm`` follows ``weights``, a frozen model in this process; or it is a server that holds its
    own (None). ``prompts`` renders its prompts, ``max_length`` is in tokens, of the vLLM, and
    ``temperature`` is the loss's.
    """

    scores = True

    def __init__(
        self,
        vllm: WeightSync | Backend,
        weights: LoadedModel | None,
        prompts: PromptFormat,
        max_length: int,
        temperature: float,
    ) -> None:
        self._sync = vllm if isinstance(vllm, WeightSync) else WeightSync(vllm)
        self._weights, self.max_length, self.temperature = weights, max_length, temperature
        # vLLM scores a sequence by what would follow it, which takes a place of its window.
        room = min(prompts.max_length, max_length - 1)
        self.prompts = dataclasses.replace(prompts, max_length=room)

    @property
    def backend(self) -> Backend:
        """The vLLM, with the teacher's weights in it."""
        if self._weights is None:
            return self._sync.backend
        try:
            return self._sync.refresh(self._weights)
        except Diverged:  # no learning rate of this run made it so
            raise ModelError(
                f"teacher {self._weights.name!r} gives log-probabilities that are not finite; try "
                "dtype = 'float32', or another model"
            ) from None

    @property
    def tier(self) -> str:
        """What it can give: I (any ids) or T (its own likeliest)."""
        return "I" if self._sync.backend.arbitrary_ids else "T"

    def assert_lists(self, loss: Divergence) -> None:
        """Raise ModelError at once where the backend lists fewer ids than the loss asks for.

        Or where what it lists depends on the requests before.
        """
        backend = self.backend
        backend.score([(0, 1)], loss.k or 0)
        verify_order(backend, self._weights, self.prompts)

    def score(
        self, pairs: Sequence[Pair], loss: StepLoss, student: StudentPass, *, step: int
    ) -> ListedOutput:
        """Log-probs of the told reply of every pair, on the ids that the loss sums over.

        The student's likeliest ids are asked for only where the loss needs them and the backend can
        score them. Raises DataError for what is too long.
        """
        assert isinstance(loss, Divergence)
        sequences = [(*pair.told_ids, *pair.reply_ids) for pair in pairs]
        if (longest := max(map(len, sequences))) >= self.max_length:
            raise DataError(
                f"a prompt with context and response of {longest} tokens leave no room in "
                f"{self._sync.backend.name},"
                f" which reads {self.max_length}; lower max_completion_length, or start it with a "
                "larger max_model_len"
            )
        lengths = [len(pair.reply_ids) for pair in pairs]
        k = loss.k or 0
        backend = self.backend
        if not (backend.arbitrary_ids and loss.teacher_needs == "I"):
            return self._packed(self._likeliest(sequences, lengths, k), student.device)
        rows = student.top_ids(k).tolist()
        ends = torch.tensor(lengths).cumsum(0).tolist()
        asked = [rows[end - n : end] for end, n in zip(ends, lengths, strict=True)]
        chosen = self._packed(backend.score(sequences, 0, asked), student.device)
        if loss.support != "union":
            return dataclasses.replace(chosen, likeliest=False)
        own = self._packed(self._likeliest(sequences, lengths, k), student.device)
        return ListedOutput(
            torch.cat([own.ids_NL, chosen.ids_NL], -1),
            torch.cat([own.logp_NL, chosen.logp_NL], -1),
            own.own_logp_N,
            likeliest=True,
            temperature=self.temperature,
        )

    def _likeliest(
        self, sequences: Sequence[tuple[int, ...]], lengths: Sequence[int], k: int
    ) -> list[PromptLogProbs]:
        """The k likeliest ids that the tokenizer has, after each token of each reply.

        vLLM lists rows of the LM head that are padding too. Where they take places of a list, the
        sequence is asked for again with so many more, until the list has k others.
        """
        size, top = self.prompts.vocab_size, k
        found: dict[int, PromptLogProbs] = {}
        asked = list(range(len(sequences)))
        while asked:
            short: dict[int, int] = {}
            scored = self.backend.score([sequences[at] for at in asked], top)
            for at, one in zip(asked, scored, strict=True):
                reply = one.last(lengths[at])
                padding = max((_beyond(row, size) for row in reply.ids), default=0)
                if padding > top - k:
                    short[at] = padding
                else:
                    found[at] = reply if top == k else _without_padding(reply, size, k)
            asked, top = list(short), k + max(short.values(), default=0)
        return [found[at] for at in range(len(sequences))]

    def _packed(self, replies: Sequence[PromptLogProbs], device: torch.device) -> ListedOutput:
        """The rows of the replies, one below the other."""
        rows = [row for one in replies for row in one.ids]
        values = [row for one in replies for row in one.logps]
        width = max(map(len, rows))
        ids = [[*row, *[_EMPTY] * (width - len(row))] for row in rows]
        logps = [[*row, *[0.0] * (width - len(row))] for row in values]
        own = [value for one in replies for value in one.own]
        return ListedOutput(
            torch.tensor(ids, device=device),
            torch.tensor(logps, device=device),
            torch.tensor(own, device=device),
            likeliest=True,
            temperature=self.temperature,
        )


def _beyond(ids: Sequence[int], size: int) -> int:
    """How many ids the tokenizer does not have; nearly always none, which is seen at once."""
    return 0 if max(ids, default=0) < size else sum(token >= size for token in ids)


def _without_padding(scored: PromptLogProbs, size: int, k: int) -> PromptLogProbs:
    """Each row's k likeliest ids below ``size``, the likeliest first."""
    kept = [
        heapq.nlargest(
            k,
            ((logp, -token) for token, logp in {*zip(ids, logps, strict=True)} if token < size),
        )
        for ids, logps in zip(scored.ids, scored.logps, strict=True)
    ]
    return PromptLogProbs(
        scored.own,
        tuple(tuple(-token for _, token in row) for row in kept),
        tuple(tuple(logp for logp, _ in row) for row in kept),
    )
