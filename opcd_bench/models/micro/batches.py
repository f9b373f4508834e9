"""Token batches of conversations: bucketed by length, right-padded, in an order that resumes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opcd_bench.envs.worlds.conversation import Conversation
from opcd_bench.models.micro.mixture import Shares, conversations
from opcd_bench.seeds import seed_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


STEP = 16
"""Rows are padded to a multiple of this: a CPU's matrix products are compiled anew for every shape
(of random shapes that is a third of the time, and gigabytes)."""


def padded(length: int, step: int = STEP) -> int:
    """``length`` rounded up to a multiple of ``step``."""
    return -(-length // step) * step


@dataclass(frozen=True)
class Encoded:
    """Token ids of a conversation; those from ``start`` on (the reply and its end) carry loss."""

    ids: list[int]
    start: int

    @property
    def weight(self) -> float:
        """Of each token's loss: a long reply weighs more than a short one by the root of lengths.

        Else the one token that a choice is would hardly count beside workings of a hundred.
        """
        return float((32 / (len(self.ids) - self.start)) ** 0.5)


@dataclass(frozen=True)
class Batch:
    """``ids_BT``, right-padded, and ``weight_BT``, above 0 where the token is to be predicted.

    With causal attention the padding is behind every real token, so that no mask is needed.
    """

    ids_BT: torch.Tensor
    weight_BT: torch.Tensor
    tokens: int

    def halves(self) -> tuple[Batch, ...]:
        """Its rows in two parts (one, where there is one row); ``tokens`` are the padded ones."""
        rows = len(self.ids_BT)
        parts = [slice(0, rows // 2), slice(rows // 2, rows)] if rows > 1 else [slice(0, rows)]
        return tuple(
            Batch(self.ids_BT[part], self.weight_BT[part], self.ids_BT[part].numel())
            for part in parts
        )


def encode(
    tokenizer: PreTrainedTokenizerBase, drawn: Sequence[Conversation], longest: int = 1024
) -> list[Encoded]:
    """The ids of each conversation in the chat template; those over ``longest`` are left out."""
    prompts = [
        str(
            tokenizer.apply_chat_template(
                [dict(m) for m in c.messages], tokenize=False, add_generation_prompt=True
            )
        )
        + c.begun
        for c in drawn
    ]
    eos = tokenizer.eos_token
    heads = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    tails = tokenizer([f"{c.reply}{eos}" for c in drawn], add_special_tokens=False)["input_ids"]
    pairs = zip(heads, tails, strict=True)
    return [Encoded(h + t, len(h)) for h, t in pairs if len(h) + len(t) <= longest]


def steps(
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    *,
    shares: Callable[[int], Shares],
    micro_tokens: int,
    micro_batches: int,
    chunk: int = 0,
    first_step: int = 0,
    chunk_size: int = 2048,
) -> Iterator[tuple[int, int, list[Batch]]]:
    """Endless optimiser steps ``(chunk, step within the chunk, micro-batches)``.

    A chunk of conversations is sorted by length and cut into micro-batches of at most
    ``micro_tokens`` padded tokens; these are shuffled and grouped, so that a step mixes lengths.
    ``shares`` gives the mixture of a chunk. Starting at ``(chunk, first_step)`` goes on exactly
    where that step would have come.
    """
    import torch

    pad = tokenizer.pad_token_id
    while True:
        encoded = encode(tokenizer, conversations(seed, chunk, chunk_size, shares(chunk)))
        encoded.sort(key=lambda e: len(e.ids))
        groups: list[list[Encoded]] = [[]]
        for item in encoded:
            if groups[-1] and (len(groups[-1]) + 1) * padded(len(item.ids)) > micro_tokens:
                groups.append([])
            groups[-1].append(item)
        random.Random(seed_of("micro-order", seed, chunk)).shuffle(groups)
        for number, at in enumerate(range(0, len(groups), micro_batches)):
            if number < first_step:
                continue
            batches = []
            for group in groups[at : at + micro_batches]:
                width = padded(max(len(e.ids) for e in group))
                ids = torch.full((len(group), width), pad, dtype=torch.long)
                weight = torch.zeros((len(group), width))
                for row, item in enumerate(group):
                    ids[row, : len(item.ids)] = torch.tensor(item.ids)
                    weight[row, item.start : len(item.ids)] = item.weight
                batches.append(Batch(ids, weight, sum(len(e.ids) for e in group)))
            yield chunk, number, batches
        chunk, first_step = chunk + 1, 0
