"""One token per row from logits: counter-based noise, top-k and top-p, inverse-CDF sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from opcd_bench.rollout.engine import Sampling

_BLOCK = 512
_BLOCKS_FROM = 4096
"""Larger vocabularies are summed in blocks; only the drawn block is looked at token by token."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014): neighbouring counters decorrelate."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniforms(seeds: Sequence[int], steps: int) -> npt.NDArray[np.float64]:
    """Noise in [0, 1), shape ``(len(seeds), steps)``: entry (b, t) depends on seeds[b] and t alone.

    52 bits each, so that ``u * total < total`` holds in float64 whatever the total.
    """
    with np.errstate(over="ignore"):
        key = _mixed(np.array([seed & (2**64 - 1) for seed in seeds], dtype=np.uint64) + _GOLDEN)
        counter = np.arange(1, steps + 1, dtype=np.uint64) * _GOLDEN
        bits = _mixed(key[:, None] + counter[None, :])
    return np.asarray((bits >> np.uint64(12)).astype(np.float64) * 2.0**-52)


class DrawnTokens(NamedTuple):
    """What one step wrote: token ids and their log-probs, both of shape (B,)."""

    ids_B: Tensor
    logp_B: Tensor


def kept(weights_BV: Tensor, top_k: int, top_p: float) -> Tensor | None:
    """Which tokens survive top-k and then top-p, ``(B, V)`` bool; None if both are off.

    Top-p reads the distribution renormalised after top-k, and keeps the fewest most likely tokens
    whose mass reaches ``top_p``. Ties with the last token kept by top-k are kept. Weights are
    probabilities up to a factor.
    """
    vocabulary = weights_BV.shape[-1]
    narrow = 0 < top_k < vocabulary
    if not narrow and top_p >= 1.0:
        return None
    keep_BV = torch.ones_like(weights_BV, dtype=torch.bool)
    if narrow:
        keep_BV = weights_BV >= weights_BV.topk(top_k, dim=-1).values[:, -1:]
    if top_p < 1.0:
        sorted_BV, order_BV = (
            (weights_BV * keep_BV).double().sort(dim=-1, descending=True, stable=True)
        )
        mass_BV = sorted_BV.cumsum(-1)
        before_BV = mass_BV - sorted_BV
        inside_BV = before_BV < top_p * mass_BV[:, -1:]
        keep_BV &= torch.zeros_like(keep_BV).scatter_(1, order_BV, inside_BV)
    return keep_BV


def draw(logits_BV: Tensor, uniforms_B: Tensor, sampling: Sampling) -> DrawnTokens:
    """The next token of each row and its log-prob under the full softmax at the temperature.

    ``logits_BV`` has only rows that the tokenizer knows (padding already cut off). Greedy takes the
    largest logit, with log-probs at temperature 1. Otherwise the token whose interval of the
    cumulative distribution, in order of ids and summed in float64, holds the row's uniform:
    round-off of 1e-7 in the logits then changes a token about once in 1e6 draws at most.
    """
    logits_BV = logits_BV.float()
    if sampling.greedy:
        ids_B = logits_BV.argmax(-1)
        logp_B = logits_BV.gather(1, ids_B[:, None])[:, 0] - logits_BV.logsumexp(-1)
        return DrawnTokens(ids_B, logp_B)
    if sampling.temperature != 1.0:
        logits_BV = logits_BV / sampling.temperature
    rows, vocabulary = logits_BV.shape
    size = _BLOCK if vocabulary > _BLOCKS_FROM else vocabulary
    most_B1 = logits_BV.amax(-1, keepdim=True)
    weights_BKJ = logits_BV.new_zeros((rows, -(-vocabulary // size), size))
    weights_BV = weights_BKJ.view(rows, -1)
    torch.exp(logits_BV - most_B1, out=weights_BV[:, :vocabulary])
    total_B1 = _masses(weights_BKJ).sum(-1, keepdim=True)
    keep_BV = kept(weights_BV, sampling.top_k, sampling.top_p)
    if keep_BV is not None:
        weights_BV *= keep_BV
    # The clamp matters only where logits are NaN: the engine reports those once the batch is done.
    ids_B = _drawn(weights_BKJ, uniforms_B).clamp_(max=vocabulary - 1)
    logp_B1 = logits_BV.gather(1, ids_B[:, None]) - most_B1 - total_B1.log().to(most_B1.dtype)
    return DrawnTokens(ids_B, logp_B1[:, 0])


def _masses(weights_BKJ: Tensor) -> Tensor:
    """Sums of the weights of each block, ``(B, blocks)``, float64."""
    return weights_BKJ.sum(-1, dtype=torch.float64)


def _drawn(weights_BKJ: Tensor, uniforms_B: Tensor) -> Tensor:
    """The id at each row's uniform share of its weights, ``(B,)``: its block first, then in it.

    A block's weights are looked at one by one only where it is drawn.
    """
    rows, blocks, size = weights_BKJ.shape
    block_B1 = torch.zeros((rows, 1), dtype=torch.long, device=weights_BKJ.device)
    if blocks > 1:
        edges_BK = _masses(weights_BKJ).cumsum(-1)
        target_B1 = uniforms_B[:, None] * edges_BK[:, -1:]
        block_B1 = torch.searchsorted(edges_BK, target_B1, right=True).clamp_(max=blocks - 1)
    each_row = torch.arange(rows, device=weights_BKJ.device)
    inside_BJ = weights_BKJ[each_row, block_B1[:, 0]].double().cumsum(-1)
    if blocks > 1:
        rest_B1 = target_B1 - torch.nn.functional.pad(edges_BK, (1, 0)).gather(1, block_B1)
        # The block was summed in another order: a rest beyond its last weight is that weight's.
        rest_B1 = rest_B1.minimum(inside_BJ[:, -1:].nextafter(torch.zeros_like(rest_B1)))
    else:
        rest_B1 = uniforms_B[:, None] * inside_BJ[:, -1:]
    within_B1 = torch.searchsorted(inside_BJ, rest_B1, right=True).clamp_(max=size - 1)
    return (block_B1 * size + within_B1)[:, 0]
