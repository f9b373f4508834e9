"""Attention over what rows share and what is their own: one token quickly, many in two parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from opcd_bench.models.cpu import attending, quick_products, scale_of

_NAME = "opcd_bench_cpu"
_SHARED = "opcd_bench_shared"
_SCORES = 2**24
"""Most attention scores that are alive at a time where no kernel keeps them in blocks."""


class Prefix(NamedTuple):
    """Keys and values of tokens that several rows begin with, of each layer.

    Each of ``layers`` is a pair of ``(1, shared heads, length, size)``.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]
    length: int


class Segment(NamedTuple):
    """So many rows of a batch, one after another, behind one prefix (None: behind nothing)."""

    rows: int
    prefix: Prefix | None


def of_rows(segments: Sequence[Segment], kept: Sequence[bool]) -> list[Segment]:
    """The segments of the rows that are kept."""
    found, begin = [], 0
    for rows, prefix in segments:
        left = sum(kept[begin : begin + rows])
        begin += rows
        if left:
            found.append(Segment(left, prefix))
    return found


_SEGMENTS: ContextVar[Sequence[Segment]] = ContextVar("segments")


class Part(NamedTuple):
    """Attention over some of the keys, and the log of the mass that softmax gave them.

    ``mixed`` (rows, heads, tokens, size); ``mass`` (rows, heads, tokens), float32 at least.
    """

    mixed: Tensor
    mass: Tensor


def cpu_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of a single query token by two batched products; longer queries go to SDPA.

    ``query`` is (rows, heads, 1, size), ``key`` and ``value`` (rows, shared heads, slots, size),
    ``attention_mask`` additive. On a CPU this takes half the time of the fused kernel, which is
    made for long queries.
    """
    rows, heads, tokens, _ = query.shape
    special = any(kwargs.get(name) is not None for name in ("position_bias", "softcap", "s_aux"))
    if tokens != 1 or special:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    scores = _scores(_packed(query * scale_of(query, scaling), key), key, attention_mask)
    out = torch.matmul(scores.softmax(-1).to(value.dtype), value)
    return out.view(rows, 1, heads, value.shape[-1]), None


def shared_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention function for rows behind the prefixes that ``behind`` names.

    ``key`` and ``value`` (rows, shared heads, slots, size) are each row's own, without the prefix;
    ``attention_mask`` is additive over them; None: causal. The two parts are joined by their
    masses, so no row holds a copy of its prefix.
    """
    query = query * scale_of(query, scaling)
    mixed = behind_prefixes(query, key, value, attention_mask, _SEGMENTS.get(), module.layer_idx)
    return mixed.transpose(1, 2).contiguous(), None


def behind_prefixes(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    segments: Sequence[Segment],
    layer: int,
) -> Tensor:
    """Attention of rows to their own keys and to those of their segment's prefix, in two parts.

    ``query`` (rows, heads, tokens, size) is scaled; the result is of its shape.
    """
    mixed, begin = [], 0
    for rows, prefix in segments:
        part = slice(begin, begin + rows)
        of_part = mask if mask is None or len(mask) == 1 else mask[part]
        own = own_part(query[part], key[part], value[part], of_part)
        if prefix is not None:
            own = joined(of_prefix(query[part], *prefix.layers[layer]), own)
        mixed.append(own.mixed)
        begin += rows
    return torch.cat(mixed)


def has_kernel(query: Tensor) -> bool:
    """Whether PyTorch has a fused kernel here that tells the mass of its softmax."""
    return query.device.type == "cpu"


def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, causal: bool) -> Part:
    """PyTorch's kernel, which reads wrongly what is not contiguous in its last dimension."""
    parts = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    return Part(
        *torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            *parts, 0.0, causal, attn_mask=mask, scale=1.0
        )
    )


def own_part(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Part:
    """Attention of each row to its own keys; ``query`` is scaled."""
    if query.shape[2] == 1:
        return _one_token(query, key, value, mask)
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    if has_kernel(query):
        # The fused kernel fails on a mask of another type than the query.
        mask = None if mask is None else mask.to(query.dtype)
        return _fused(query, key, value, mask, causal=mask is None)
    rows, heads, tokens, _ = query.shape
    most = max(1, _SCORES // (heads * tokens * key.shape[2]))
    parts = [
        _some_rows(query[part], key[part], value[part],
                   mask if mask is None or len(mask) == 1 else mask[part])
        for part in (slice(a, a + most) for a in range(0, rows, most))
    ]  # fmt: skip
    return Part(torch.cat([p.mixed for p in parts]), torch.cat([p.mass for p in parts]))


def _some_rows(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Part:
    """As `own_part`, of as many tokens at a time as have few scores: one row alone may be long."""
    rows, heads, tokens, _ = query.shape
    most = max(1, _SCORES // (rows * heads * key.shape[2]))
    parts = []
    for first in range(0, tokens, most):
        last = min(first + most, tokens)
        if mask is None:  # causal: later keys are unseen
            seen = last
            own = torch.full((last - first, seen), -torch.inf, device=query.device)
            own = own.triu_(first + 1)[None, None]
        else:
            seen, own = key.shape[2], mask[:, :, first:last]
        parts.append(_weighed(query[:, :, first:last], key[:, :, :seen], value[:, :, :seen], own))
    return Part(torch.cat([p.mixed for p in parts], 2), torch.cat([p.mass for p in parts], 2))


def _one_token(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Part:
    """Attention of one token of each row to the row's keys; ``query`` is scaled."""
    rows, heads = query.shape[:2]
    part = _weighed(_packed(query, key), key, value, mask)
    return Part(part.mixed.reshape(rows, heads, 1, -1), part.mass.reshape(rows, heads, 1))


def of_prefix(query: Tensor, key: Tensor, value: Tensor) -> Part:
    """Attention of all rows to keys that they share, as if they were one long row."""
    rows, heads, tokens, size = query.shape
    shared = key.shape[1]
    stacked = query.reshape(rows, shared, -1, size).transpose(0, 1).reshape(1, shared, -1, size)
    if has_kernel(query) and stacked.shape[2] > 1:
        part = _fused(stacked, key, value, None, causal=False)
    else:
        most = max(1, _SCORES // (shared * key.shape[2]))
        pieces = torch.split(stacked, most, dim=2)
        parts = [_weighed(piece, key, value, None) for piece in pieces]
        part = Part(torch.cat([p.mixed for p in parts], 2), torch.cat([p.mass for p in parts], 2))

    def unstacked(x: Tensor) -> Tensor:
        x = x.reshape(shared, rows, heads // shared, tokens, -1).transpose(0, 1)
        return x.reshape(rows, heads, tokens, -1)

    return Part(unstacked(part.mixed), unstacked(part.mass)[..., 0])


def _weighed(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Part:
    """Softmax attention by plain products, with its mass; ``query`` is scaled."""
    scores = _scores(query, key, mask)
    mass = scores.logsumexp(-1)
    weights = scores.sub_(mass[..., None]).exp_()
    return Part(torch.matmul(weights.to(value.dtype), value), mass)


def _packed(query: Tensor, key: Tensor) -> Tensor:
    """One token's query heads in the place of tokens: (rows, shared heads, heads of each, size)."""
    rows, heads, _, size = query.shape
    return query.to(key.dtype).reshape(rows, key.shape[1], heads // key.shape[1], size)


def _scores(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """Query times keys, (rows, heads, tokens, slots), float32 at least."""
    keys = key.transpose(2, 3)
    if query.device.type == "cuda" and query.dtype in (torch.bfloat16, torch.float16):
        # In bfloat16 a score of 20 would be rounded by up to 1/16, and its weight by as much.
        product = torch.bmm(query.flatten(0, 1), keys.flatten(0, 1), out_dtype=torch.float32)
        scores = product.view(*query.shape[:2], *product.shape[1:])
    else:
        scores = torch.matmul(query, keys).float()
    if mask is not None:
        scores += mask
    return scores


def joined(first: Part, second: Part) -> Part:
    """Attention over the keys of both parts."""
    mass = torch.logaddexp(first.mass, second.mass)
    mixed = first.mixed * (first.mass - mass).exp_()[..., None]
    mixed = mixed + second.mixed * (second.mass - mass).exp_()[..., None]
    return Part(mixed.to(second.mixed.dtype), mass)


@contextmanager
def behind(model: PreTrainedModel, segments: Sequence[Segment]) -> Iterator[None]:
    """Let the rows of ``model``'s forward passes attend to the prefixes of ``segments`` too.

    The passes get each row's own tokens, their true positions, and an additive mask over the row's
    own slots or none. Where no segment has a prefix the model attends as it did.
    """
    if all(prefix is None for _, prefix in segments):
        yield
        return
    token = _SEGMENTS.set(segments)
    try:
        with attending(model, _SHARED, shared_attention):
            yield
    finally:
        _SEGMENTS.reset(token)


@contextmanager
def fast_on_cpu(model: PreTrainedModel, *, additive_masks: bool) -> Iterator[None]:
    """On a CPU, let ``model`` use the faster exact product, and ``cpu_attention`` to decode.

    The latter only with ``additive_masks``: what transformers builds from 2-D masks is boolean.
    """
    if model.device.type != "cpu":
        yield
        return
    fits = additive_masks and model.config.get_text_config()._attn_implementation == "sdpa"
    faster = attending(model, _NAME, cpu_attention, sdpa_mask) if fits else nullcontext()
    with faster, quick_products():
        yield
