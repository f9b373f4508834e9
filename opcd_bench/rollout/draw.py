"""One token per row from logits: counter-based noise, top-k and top-p, inverse-CDF sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from opcd_bench.rollout.engine import Sampling

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


def kept(probs_BV: Tensor, top_k: int, top_p: float) -> Tensor | None:
    """Which tokens survive top-k and then top-p, ``(B, V)`` bool; None if both are off.

    Top-p reads the distribution renormalised after top-k, and keeps the fewest most likely tokens
    whose mass reaches ``top_p``. Ties with the last token kept by top-k are kept.
    """
    vocabulary = probs_BV.shape[-1]
    narrow = 0 < top_k < vocabulary
    if not narrow and top_p >= 1.0:
        return None
    keep_BV = torch.ones_like(probs_BV, dtype=torch.bool)
    if narrow:
        keep_BV = probs_BV >= probs_BV.topk(top_k, dim=-1).values[:, -1:]
    if top_p < 1.0:
        sorted_BV, order_BV = (probs_BV * keep_BV).sort(dim=-1, descending=True, stable=True)
        mass_BV = sorted_BV.cumsum(-1)
        before_BV = mass_BV - sorted_BV
        inside_BV = before_BV < top_p * mass_BV[:, -1:]
        keep_BV &= torch.zeros_like(keep_BV).scatter_(1, order_BV, inside_BV)
    return keep_BV


def draw(logits_BV: Tensor, uniforms_B: Tensor, sampling: Sampling) -> DrawnTokens:
    """The next token of each row and its log-prob under the full softmax at the temperature.

    ``logits_BV`` has only rows that the tokenizer knows (padding already cut off). Greedy takes the
    largest logit, with log-probs at temperature 1. Otherwise the token whose interval of the
    cumulative distribution, in order of ids and in float64, holds the row's uniform: round-off of
    1e-7 in the logits then changes a token about once in 1e6 draws at most.
    """
    logits_BV = logits_BV.float()
    if sampling.greedy:
        ids_B = logits_BV.argmax(-1)
        logp_B = logits_BV.gather(1, ids_B[:, None])[:, 0] - logits_BV.logsumexp(-1)
        return DrawnTokens(ids_B, logp_B)
    if sampling.temperature != 1.0:
        logits_BV = logits_BV / sampling.temperature
    logp_BV = logits_BV.log_softmax(-1)
    probs_BV = logp_BV.double().exp()
    keep_BV = kept(probs_BV, sampling.top_k, sampling.top_p)
    if keep_BV is not None:
        probs_BV = probs_BV * keep_BV
    cdf_BV = probs_BV.cumsum(-1)
    target_B1 = uniforms_B[:, None] * cdf_BV[:, -1:]
    # The clamp matters only where logits are NaN: the engine reports those once the batch is done.
    ids_B = torch.searchsorted(cdf_BV, target_B1, right=True)[:, 0].clamp_(max=cdf_BV.shape[1] - 1)
    return DrawnTokens(ids_B, logp_BV.gather(1, ids_B[:, None])[:, 0])
