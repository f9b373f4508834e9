"""Sequences of unequal length in one row: no padding is computed, except inside attention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from opcd_bench.models import cpu
from opcd_bench.rollout.attention import Segment, joined, of_prefix, own_part

_NAME = "opcd_bench_packed"


class Packing:
    """Where each sequence of so many tokens lies in a packed row, and in a padded batch."""

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        self.lengths, self.width, self.total = tuple(lengths), max(lengths), sum(lengths)
        self.even = self.total == len(self.lengths) * self.width
        self.slots = torch.cat(
            [torch.arange(n) + row * self.width for row, n in enumerate(self.lengths)]
        ).to(device)
        """Of each packed token: its place in the padded batch, flattened."""

    def positions(self, shared: Sequence[int]) -> Tensor:
        """Each token's position behind so many tokens that come before its sequence, (1, total)."""
        pairs = zip(self.lengths, shared, strict=True)
        steps = torch.cat([torch.arange(before, before + n) for n, before in pairs])
        return steps[None].to(self.slots.device)

    def padded(self, packed: Tensor) -> Tensor:
        """(1, heads, total, size) -> (rows, heads, width, size), zeros at the end of short rows."""
        _, heads, _, size = packed.shape
        tokens = packed[0].transpose(0, 1)
        if not self.even:
            empty = tokens.new_zeros((len(self.lengths) * self.width, heads, size))
            tokens = empty.index_copy(0, self.slots, tokens)
        return tokens.reshape(len(self.lengths), self.width, heads, size).transpose(1, 2)

    def packed(self, padded: Tensor) -> Tensor:
        """(rows, width, heads, size) -> (1, total, heads, size)."""
        tokens = padded.reshape(len(self.lengths) * self.width, *padded.shape[2:])
        return (tokens if self.even else tokens.index_select(0, self.slots))[None]


_PACKED: ContextVar[tuple[Packing, Sequence[Segment]]] = ContextVar("packed")


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention function for the packed row that ``packed`` names.

    Each sequence attends to itself, causally, and to its segment's prefix; ``query``, ``key`` and
    ``value`` are (1, heads or shared heads, total, size) -> (1, total, heads, size).
    """
    packing, segments = _PACKED.get()
    own_key, own_value = packing.padded(key), packing.padded(value)
    if all(prefix is None for _, prefix in segments):
        mixed = _causal(module, packing.padded(query), own_key, own_value, scaling)
        return packing.packed(mixed), None
    query = query * cpu.scale_of(query, scaling)
    own = own_part(packing.padded(query), own_key, own_value, None)
    mixed = packing.packed(own.mixed.transpose(1, 2)).transpose(1, 2)
    mass = packing.packed(own.mass.transpose(1, 2)).transpose(1, 2)
    parts, row, begin = [], 0, 0
    for rows, prefix in segments:
        end = begin + sum(packing.lengths[row : row + rows])
        piece = own._replace(mixed=mixed[:, :, begin:end], mass=mass[:, :, begin:end])
        if prefix is not None:
            there = of_prefix(query[:, :, begin:end], *prefix.layers[module.layer_idx])
            piece = joined(there, piece)
        parts.append(piece.mixed)
        row, begin = row + rows, end
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None


def _causal(
    module: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float | None
) -> Tensor:
    """Causal attention of padded rows, (rows, width, heads, size); what follows a row is unseen."""
    if query.device.type == "cpu" and query.shape[2] <= cpu.LONGEST:
        return cpu.causal_attention(module, query, key, value, None, scaling)[0]
    # On a GPU no fused kernel shares heads in float32: PyTorch would keep all scores instead.
    shares = query.device.type == "cpu" or query.dtype in (torch.bfloat16, torch.float16)
    if not shares:
        groups = query.shape[1] // key.shape[1]
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    mixed = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scaling, enable_gqa=shares
    )
    return mixed.transpose(1, 2)


@contextmanager
def packed(model: PreTrainedModel, packing: Packing, segments: Sequence[Segment]) -> Iterator[None]:
    """Let forward passes of ``model`` over one packed row keep its sequences apart.

    Only for ``cpu.plain`` attention. With gradient checkpointing, whose second forward pass runs
    outside of this block, that has to be told by `again`.
    """
    token = _PACKED.set((packing, segments))
    try:
        with cpu.attending(model, _NAME, packed_attention):
            yield
    finally:
        _PACKED.reset(token)


def again(
    model: PreTrainedModel,
) -> Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
    """The ``context_fn`` of torch's checkpoint, by which a second pass packs as the first one did.

    It is called in the first pass; what it gives is entered by whatever thread makes the second.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        found = _PACKED.get(None)
        return nullcontext(), nullcontext() if found is None else packed(model, *found)

    return contexts
