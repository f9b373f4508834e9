"""The keys and values of a batch of prompts: computed once per distinct token run, then grown."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

_GROW = 32
_SHARE_FROM = 64
"""A shared prefix pays from about this many token computations saved."""
_TOKENS = 4_096
_SCORES = 2**26
"""Most tokens, and most attention scores, of one prefill forward: bounds its memory."""


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values in whole buffers of ``(rows, heads, capacity, size)``, grown 32 slots a time.

    A new token is written, not copied, and attention reads the whole contiguous buffer: slots that
    are not filled hold zeros and must be masked (``capacity`` is the mask's width).
    """

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, length: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device = keys.dtype, keys.device
        self.keys, self.values, self.length = keys, values, length
        self.is_initialized = True

    @property
    def capacity(self) -> int:
        """Slots of the buffers, filled or not."""
        return int(self.keys.shape[-2])

    def get_seq_length(self) -> int:
        """Filled slots."""
        return self.length

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append ``(rows, heads, tokens, size)`` and return the whole buffers."""
        begin, end = self.length, self.length + key_states.shape[-2]
        if end > self.capacity:
            self.keys = _roomy(self.keys, capacity_for(end))
            self.values = _roomy(self.values, capacity_for(end))
        self.keys[:, :, begin:end] = key_states
        self.values[:, :, begin:end] = value_states
        self.length = end
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows, and free the memory of the others."""
        self.keys = self.keys.index_select(0, indices)
        self.values = self.values.index_select(0, indices)


def as_argument(model: PreTrainedModel, cache: Cache) -> dict[str, Cache]:
    """A cache under the name that ``model.forward`` gives it: `cache` from transformers 5.24 on."""
    known = "cache" in inspect.signature(model.forward).parameters
    return {"cache" if known else "past_key_values": cache}


def capacity_for(length: int) -> int:
    """Slots of a buffer that holds ``length``: the next multiple of 32."""
    return -(-length // _GROW) * _GROW


def _roomy(filled: Tensor, capacity: int) -> Tensor:
    shape = (*filled.shape[:2], capacity, filled.shape[3])
    buffer = torch.zeros(shape, dtype=filled.dtype, device=filled.device)
    buffer[:, :, : filled.shape[2]] = filled
    return buffer


class Prefilled(NamedTuple):
    """A batch of prompts, read: what the first decoding step needs.

    ``real_BT`` tells real slots of the cache from padding; ``logits_BV`` follow the last token.
    """

    cache: Cache
    real_BT: Tensor
    logits_BV: Tensor


def prefill(
    model: PreTrainedModel, prompts: Sequence[tuple[int, ...]], *, pad_id: int, dtype: torch.dtype
) -> Prefilled:
    """Read the prompts: a prefix that all share is computed once, an equal prompt once.

    Slots are the shared prefix, padding, the rest of the prompt. ``dtype`` is that of the cache.
    Only for models with ``cpu.plain`` attention; logits and cache are those of an unpadded forward
    up to round-off.
    """
    device = model.device
    rows_of: dict[tuple[int, ...], list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows_of.setdefault(prompt, []).append(row)
    distinct = sorted(rows_of, key=len)
    shared = _shared(distinct)
    width = max(len(distinct[-1]), 1)
    head = _forward_prefix(model, distinct[0][:shared]) if shared else None
    buffers: list[tuple[Tensor, Tensor]] = []
    real_BT = torch.ones((len(prompts), width), dtype=torch.bool, device=device)
    logits_BV: Tensor | None = None
    for chunk in _chunks(distinct, shared):
        rest = len(chunk[-1]) - shared
        pads = torch.tensor([len(chunk[-1]) - len(prompt) for prompt in chunk], device=device)
        ids = [(pad_id,) * (rest + shared - len(p)) + p[shared:] for p in chunk]
        cache, chunk_logits = _forward_rest(model, ids, pads, head, shared)
        rows = torch.tensor([r for p in chunk for r in rows_of[p]], device=device)
        source = torch.tensor([i for i, p in enumerate(chunk) for _ in rows_of[p]], device=device)
        if logits_BV is None:
            logits_BV = chunk_logits.new_empty((len(prompts), chunk_logits.shape[-1]))
            buffers = [
                (
                    _empty(keys, len(prompts), width, dtype),
                    _empty(values, len(prompts), width, dtype),
                )
                for keys, values in _held(cache)
            ]
        logits_BV[rows] = chunk_logits[source]
        for pair, read in zip(buffers, _held(cache), strict=True):
            for buffer, part in zip(pair, read, strict=True):
                buffer[rows, :, width - rest : width] = part[source][:, :, shared:].to(dtype)
        slots = torch.arange(width, device=device)
        real_BT[rows] = (slots < shared) | (slots >= width - rest + pads[source][:, None])
    assert logits_BV is not None
    if head is not None:
        for pair, read in zip(buffers, _held(head), strict=True):
            for buffer, part in zip(pair, read, strict=True):
                buffer[:, :, :shared] = part.to(dtype)
    layers: list[Any] = [GrowingLayer(keys, values, width) for keys, values in buffers]
    return Prefilled(Cache(layers=layers), real_BT, logits_BV)


def _held(cache: Cache) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of each layer of a cache of ``DynamicLayer``."""
    layers: list[Any] = cache.layers
    return [(layer.keys, layer.values) for layer in layers]


def _shared(distinct: Sequence[tuple[int, ...]]) -> int:
    """Tokens that all prompts begin with, less than the shortest; 0 if sharing would not pay."""
    first, last = min(distinct), max(distinct)
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    same = min(same, len(distinct[0]) - 1)
    return same if same * (len(distinct) - 1) >= _SHARE_FROM else 0


def _empty(like: Tensor, rows: int, width: int, dtype: torch.dtype) -> Tensor:
    # Zeros: padding slots between two chunks are never written, and 0 times garbage must be 0.
    shape = (rows, like.shape[1], capacity_for(width), like.shape[3])
    return torch.zeros(shape, dtype=dtype, device=like.device)


def _chunks(distinct: Sequence[tuple[int, ...]], shared: int) -> list[Sequence[tuple[int, ...]]]:
    """Cut prompts, sorted by length, into runs that one forward can take."""
    chunks, begin = [], 0
    for end in range(1, len(distinct) + 1):
        if end < len(distinct):
            rest = len(distinct[end]) - shared
            count = end + 1 - begin
            if count * rest <= _TOKENS and count * rest * (rest + shared) <= _SCORES:
                continue
        chunks.append(distinct[begin:end])
        begin = end
    return chunks


def _forward_prefix(model: PreTrainedModel, prefix: tuple[int, ...]) -> Cache:
    cache = DynamicCache(config=model.config)
    ids = torch.tensor([prefix], device=model.device)
    model(input_ids=ids, use_cache=True, logits_to_keep=1, **as_argument(model, cache))
    return cache


def _forward_rest(
    model: PreTrainedModel,
    ids: Sequence[Sequence[int]],
    pads: Tensor,
    head: Cache | None,
    shared: int,
) -> tuple[Cache, Tensor]:
    """Forward the rest of a chunk's prompts; cache of ``[prefix, padding, rest]`` and logits."""
    ids_BT = torch.tensor(ids, device=model.device)
    count, rest = ids_BT.shape
    cache = DynamicCache(config=model.config)
    if head is not None:
        for layer, (keys, values) in enumerate(_held(head)):
            cache.update(keys.expand(count, -1, -1, -1), values.expand(count, -1, -1, -1), layer)
    steps = torch.arange(rest, device=model.device)
    positions_BT = (shared + steps[None] - pads[:, None]).clamp_(min=0)
    mask = None
    if head is not None or bool(pads.any()):
        slots = torch.arange(shared + rest, device=model.device)
        causal = slots[None, :] <= shared + steps[:, None]
        real = (slots[None] < shared) | (slots[None] >= shared + pads[:, None])
        mask = additive(causal[None, None] & real[:, None, None], model.dtype)
    out = model(
        input_ids=ids_BT,
        attention_mask=mask,
        position_ids=positions_BT,
        use_cache=True,
        logits_to_keep=1,
        **as_argument(model, cache),
    )
    return cache, out.logits[:, -1]


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where allowed, else a number so low that softmax gives 0, yet finite in bfloat16 too.

    Finite, so that a row of padding, which may attend to nothing, gives no NaN.
    """
    low = torch.finfo(torch.float16 if dtype == torch.float16 else torch.bfloat16).min
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, low)
