"""One-token attention over a cache, and exact float32 products, both as fast as the CPU allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

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
        with _onednn(_onednn_is_exact()):
            yield
    finally:
        config._attn_implementation = before


@contextmanager
def _onednn(wanted: bool) -> Iterator[None]:
    """Float32 products through oneDNN, which torch allows only under the name of bf16."""
    matmul: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    if wanted:
        matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


@cache
def _onednn_is_exact() -> bool:
    """Whether oneDNN keeps float32 here although it may round to bf16: so where there is no AMX.

    On an AMD EPYC 9005 it does, at twice the speed of MKL.
    """
    size = 256
    grid = torch.arange(size * size, dtype=torch.float64).view(size, size)
    left, right = (grid * 0.7).sin(), (grid * 1.3).cos()
    with torch.no_grad(), torch.autocast("cpu", enabled=False), _onednn(True):
        got = torch.nn.functional.linear(left.float(), right.float())
    return bool((got.double() - left @ right.T).abs().max() < 1e-4)
