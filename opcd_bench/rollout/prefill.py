"""A batch of prompts, read: prefixes and equal prompts once, and no row copies its prefix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from opcd_bench.models.loaded import LoadedModel
from opcd_bench.rollout.attention import Segment, behind
from opcd_bench.rollout.kv import GrowingLayer, additive, as_argument, held
from opcd_bench.rollout.prefixes import Ids, Prefixes

_TOKENS = 4_096
_SCORES = 2**26
"""Most tokens, and most attention scores, of one prefill forward: bounds its memory."""


class Prefilled(NamedTuple):
    """A batch of prompts, read: what the first decoding step needs.

    ``cache`` holds each row's own tokens, those behind its prefix; ``real_BT`` tells its real slots
    from padding; ``logits_BV`` follow the last token; ``segments`` are the prefixes of the rows.
    """

    cache: Cache
    real_BT: Tensor
    logits_BV: Tensor
    segments: Sequence[Segment]


def prefill(loaded: LoadedModel, prompts: Sequence[Ids], prefixes: Prefixes) -> Prefilled:
    """Read the prompts behind the prefixes that they share; those of one prefix are neighbours.

    Own slots are padding, then the rest of the prompt. Only for models with ``cpu.plain``
    attention; logits and cache are those of an unpadded forward of the whole prompt, to round-off.
    """
    device = loaded.model.device
    rows_of: dict[Ids, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows_of.setdefault(prompt, []).append(row)
    width = max(_rest(prompt, prefixes) for prompt in rows_of)
    layers: list[Any] = []
    real_BT = torch.zeros((len(prompts), width), dtype=torch.bool, device=device)
    logits_BV: Tensor | None = None
    for chunk in _chunks(list(rows_of), prefixes):
        read, chunk_logits, pads = _forward(loaded, chunk, prefixes)
        rest = held(read)[0][0].shape[2]
        rows = torch.tensor([r for p in chunk for r in rows_of[p]], device=device)
        source = torch.tensor([i for i, p in enumerate(chunk) for _ in rows_of[p]], device=device)
        if logits_BV is None:
            logits_BV = chunk_logits.new_empty((len(prompts), chunk_logits.shape[-1]))
            layers = [GrowingLayer.empty(len(prompts), width, *pair) for pair in held(read)]
        logits_BV[rows] = chunk_logits[source]
        for layer, (keys, values) in zip(layers, held(read), strict=True):
            layer.keys[rows, :, width - rest : width] = keys[source]
            layer.values[rows, :, width - rest : width] = values[source]
        slots = torch.arange(width, device=device)
        real_BT[rows] = slots >= width - rest + pads[source][:, None]
    assert logits_BV is not None, "a batch has a prompt"
    return Prefilled(Cache(layers=layers), real_BT, logits_BV, prefixes.segments(prompts))


def last_of(length: int, device: torch.device) -> Tensor:
    """What keeps the logits of the last place alone, as ``logits_to_keep``.

    An index copies what it keeps; the number 1 would slice it, and a head that gets a slice is
    multiplied anew for every row (`torch.nn.functional.linear`): bf16 lost four hundredfold.
    """
    return torch.tensor([length - 1], device=device)


def _rest(prompt: Ids, prefixes: Prefixes) -> int:
    """How many tokens of a prompt are its own."""
    return len(prompt) - len(prefixes.of(prompt))


def _chunks(distinct: Sequence[Ids], prefixes: Prefixes) -> list[Sequence[Ids]]:
    """Cut prompts into runs that one forward can take."""
    chunks, begin, rest, longest = [], 0, 0, 0
    for end, prompt in enumerate(distinct):
        rest, longest = max(rest, _rest(prompt, prefixes)), max(longest, len(prompt))
        count = end + 1 - begin
        if count > 1 and (count * rest > _TOKENS or count * rest * longest > _SCORES):
            chunks.append(distinct[begin:end])
            begin, rest, longest = end, _rest(prompt, prefixes), len(prompt)
    return [*chunks, distinct[begin:]]


def _forward(
    loaded: LoadedModel, prompts: Sequence[Ids], prefixes: Prefixes
) -> tuple[Cache, Tensor, Tensor]:
    """Read what is each prompt's own; its cache, the logits of the last token, and the padding."""
    model, device = loaded.model, loaded.model.device
    shared = torch.tensor([len(prefixes.of(p)) for p in prompts], device=device)
    most = max(_rest(p, prefixes) for p in prompts)
    pads = torch.tensor([most - _rest(p, prefixes) for p in prompts], device=device)
    ids = [
        (loaded.pad_id,) * (most - _rest(p, prefixes)) + p[len(prefixes.of(p)) :] for p in prompts
    ]
    steps = torch.arange(most, device=device)
    positions_BT = shared[:, None] + (steps[None] - pads[:, None]).clamp_(min=0)
    mask = None
    if bool(pads.any()):
        causal = steps[None, :] <= steps[:, None]
        real = steps[None] >= pads[:, None]
        mask = additive(causal[None, None] & real[:, None, None], model.dtype)
    cache = DynamicCache(config=model.config)
    with behind(model, prefixes.segments(prompts)):
        out = model(
            input_ids=torch.tensor(ids, device=device),
            attention_mask=mask,
            position_ids=positions_BT,
            use_cache=True,
            logits_to_keep=last_of(most, device),
            **as_argument(model, cache),
        )
    return cache, out.logits[:, -1], pads
