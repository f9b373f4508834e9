"""Attention of one token over a cache, as fast as the CPU allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from opcd_bench.models.cpu import quick_products

_NAME = "opcd_bench_cpu"


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
    rows, heads, tokens, size = query.shape
    special = any(kwargs.get(name) is not None for name in ("position_bias", "softcap", "s_aux"))
    if tokens != 1 or special:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    shared = key.shape[1]
    scale = size**-0.5 if scaling is None else scaling
    packed = (query * scale).to(key.dtype).reshape(rows, shared, heads // shared, size)
    scores = torch.matmul(packed, key.transpose(2, 3)).float()
    if attention_mask is not None:
        scores += attention_mask
    out = torch.matmul(scores.softmax(-1).to(value.dtype), value)
    return out.view(rows, 1, heads, value.shape[-1]), None


@contextmanager
def fast_on_cpu(model: PreTrainedModel, *, additive_masks: bool) -> Iterator[None]:
    """On a CPU, let ``model`` use the faster exact product, and ``cpu_attention`` to decode.

    The latter only with ``additive_masks``: what transformers builds from 2-D masks is boolean.
    """
    if model.device.type != "cpu":
        yield
        return
    config = model.config.get_text_config()
    before = config._attn_implementation
    if additive_masks and before == "sdpa":
        AttentionInterface.register(_NAME, cpu_attention)
        AttentionMaskInterface.register(_NAME, sdpa_mask)
        config._attn_implementation = _NAME
    try:
        with quick_products():
            yield
    finally:
        config._attn_implementation = before
