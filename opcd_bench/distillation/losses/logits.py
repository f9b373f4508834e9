"""A model's logits read in blocks of rows: totals, likeliest ids, log-probs and their gradient.

Whatever is as wide as the vocabulary lives for one block, which a CPU's cache can hold; what stays
is a number a row, or k. Here logits are flat, shape (N, V), float32 or float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

LOG_PROB_FLOOR = -100.0
"""Log-prob (nats) given to what a model holds impossible; exp of it underflows float32."""
_MASKED = -1e4  # no finite gap of real logits comes near; masks (-inf, the dtype's minimum) pass it

_CPU_WORDS = 2**17
"""Numbers in a block, for each thread: half a MiB in float32, a few of which a cache holds."""
_GPU_WORDS = 2**24


def blocks(logits_NV: Tensor) -> Iterator[slice]:
    """Slices of the rows, a block each; every row's result is the same in any block."""
    on_cpu = logits_NV.device.type == "cpu"
    words = _CPU_WORDS * torch.get_num_threads() if on_cpu else _GPU_WORDS
    size = max(1, words // max(1, logits_NV.shape[-1]))
    for start in range(0, len(logits_NV), size):
        yield slice(start, start + size)


def accumulation(logits: Tensor) -> Tensor:
    """Return the logits in the type that sums are made in: float64 kept, all else float32."""
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def masked(logp: Tensor) -> Tensor | None:
    """Which tokens a mask took from the student; None where it took none.

    A token that is merely unlikely is no such token: its gradient must live.
    """
    if logp.numel() and bool(logp.amin() < _MASKED):  # marks cost more than a look
        return logp < _MASKED
    return None


def floored(logp: Tensor, *, teacher: bool) -> Tensor:
    """Log-probs with a floor; no gradient reaches what is masked in the student."""
    if teacher:
        return logp.clamp(min=LOG_PROB_FLOOR)
    marks = masked(logp.detach())
    return logp if marks is None else torch.where(marks, LOG_PROB_FLOOR, logp)


def entropy_of(p_XV: Tensor, logp_XV: Tensor) -> Tensor:
    """Entropy in nats, shape (...), of floored log-probs and their exponentials."""
    return -(p_XV * logp_XV).sum(-1)


@torch.no_grad()
def totals(logits_NV: Tensor, scale: float = 1.0) -> Tensor:
    """Log-sum-exp of every row of the logits times ``scale``, shape (N,)."""
    total_N = logits_NV.new_empty(len(logits_NV))
    for part in blocks(logits_NV):
        block_RV = logits_NV[part] if scale == 1.0 else logits_NV[part] * scale
        total_N[part] = block_RV.logsumexp(-1)
    return total_N


@torch.no_grad()
def entropies(logits_NV: Tensor, total_N: Tensor, *, teacher: bool) -> Tensor:
    """Entropy of every row in nats, shape (N,), from its total."""
    entropy_N = torch.empty_like(total_N)
    for part in blocks(logits_NV):
        logp_RV = floored(logits_NV[part] - total_N[part, None], teacher=teacher)
        entropy_N[part] = entropy_of(logp_RV.exp(), logp_RV)
    return entropy_N


@torch.no_grad()
def log_prob_of(logits_NV: Tensor, ids_N: Tensor, scale: float) -> Tensor:
    """Log-prob of one id a row under the logits times ``scale``, shape (N,), without gradient."""
    logits_NV = accumulation(logits_NV)
    return logits_NV.gather(-1, ids_N[:, None])[:, 0] * scale - totals(logits_NV, scale)


@torch.no_grad()
def likeliest(logits_NV: Tensor, k: int) -> Tensor:
    """Ids of the k largest logits of every row, shape (N, k), in no order; exactly k, ties or not.

    Columns i, i + m, i + 2m … form a group. All k largest are in the k groups whose best is
    largest, and there is no need to rank the rest: topk over a whole row is slow.
    """
    size = math.isqrt(logits_NV.shape[-1] // max(k, 1))
    if size < 4:
        return logits_NV.topk(k, dim=-1, sorted=False).indices
    ids_NK = torch.empty(len(logits_NV), k, dtype=torch.long, device=logits_NV.device)
    for part in blocks(logits_NV):
        ids_NK[part] = _likeliest_of_groups(logits_NV[part], k, size)
    return ids_NK


def _likeliest_of_groups(logits_RV: Tensor, k: int, size: int) -> Tensor:
    rows, vocabulary = logits_RV.shape
    groups = vocabulary // size
    best_RG = logits_RV[:, : size * groups].view(rows, size, groups).amax(1)
    chosen_RK = best_RG.topk(k, dim=-1, sorted=False).indices
    steps_S = groups * torch.arange(size, device=logits_RV.device)
    beside_L = torch.arange(size * groups, vocabulary, device=logits_RV.device)
    ids_RC = (chosen_RK.unsqueeze(-1) + steps_S).flatten(1)
    ids_RC = torch.cat([ids_RC, beside_L.expand(rows, -1)], -1)
    found_RK = logits_RV.gather(-1, ids_RC).topk(k, dim=-1, sorted=False).indices
    return ids_RC.gather(-1, found_RK)


def log_probs(logits_NV: Tensor, total_N: Tensor, ids_NK: Tensor) -> Tensor:
    """Log-probs at the ids, shape (N, K), not floored, with gradient."""
    logp_NK: Tensor = _Read.apply(logits_NV, total_N, ids_NK, None)[0]  # type: ignore[no-untyped-call]
    return logp_NK


def log_probs_and_tail(
    logits_NV: Tensor, total_N: Tensor, ids_NK: Tensor, inside_NK: Tensor
) -> tuple[Tensor, Tensor]:
    """Log-probs at the ids, and the log-mass outside those that are inside, shape (N,)."""
    return _Read.apply(logits_NV, total_N, ids_NK, inside_NK)  # type: ignore[no-untyped-call, no-any-return]


class _Read(torch.autograd.Function):
    """Log-probs at ids, and the log-mass outside some of them: one gradient for all of it.

    ``d log p_k / dz = e_k - p``, and of the log-mass outside a set ``p outside / its mass - p``.
    The mass is summed outside, since one minus the mass inside would cancel.
    """

    @staticmethod
    def forward(
        ctx: Any, logits_NV: Tensor, total_N: Tensor, ids_NK: Tensor, inside_NK: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        logp_NK = logits_NV.gather(-1, ids_NK) - total_N[:, None]
        if inside_NK is None:
            ctx.save_for_backward(logits_NV, total_N, ids_NK)
            return logp_NK, None
        left_N = torch.empty_like(total_N)
        for part in blocks(logits_NV):
            outside_RV = logits_NV[part].clone()
            outside_RV[_marked(ids_NK[part], inside_NK[part])] = -math.inf
            left_N[part] = outside_RV.logsumexp(-1)
        ctx.save_for_backward(logits_NV, total_N, ids_NK, inside_NK, left_N)
        return logp_NK, left_N - total_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        assert_first_derivative()
        logits_NV, total_N, ids_NK, *tail = ctx.saved_tensors
        pull_NK, share_N = grads[0], grads[0].sum(-1)
        if tail:
            inside_NK, left_N = tail
            nothing_N = left_N == -math.inf
            # a mass of nothing or of everything is what it is, whatever the logits
            push_N = grads[1].masked_fill(nothing_N | ~inside_NK.any(-1), 0.0)
            share_N, left_N = share_N + push_N, left_N.masked_fill(nothing_N, 0.0)
        gradient_NV = torch.empty_like(logits_NV)
        for part in blocks(logits_NV):
            p_RV = (logits_NV[part] - total_N[part, None]).exp_()
            torch.mul(p_RV, -_per_mass(share_N[part], p_RV), out=gradient_NV[part])
            if tail:
                p_RV = torch.sub(logits_NV[part], left_N[part, None], out=p_RV).exp_()
                p_RV[_marked(ids_NK[part], inside_NK[part])] = 0.0
                gradient_NV[part].addcmul_(p_RV, _per_mass(push_N[part], p_RV))
        return gradient_NV.scatter_add_(-1, ids_NK, pull_NK), None, None, None


def _per_mass(values_R: Tensor, p_RV: Tensor) -> Tensor:
    """Values over the sum of p, which the rounding of a total keeps from being 1; shape (R, 1)."""
    mass_R = p_RV.sum(-1).clamp(min=torch.finfo(p_RV.dtype).tiny)
    return (values_R / mass_R)[:, None]


def assert_first_derivative() -> None:
    """Raise RuntimeError where autograd is to differentiate a gradient once more."""
    if torch.is_grad_enabled():  # in a backward pass: only with create_graph
        raise RuntimeError(
            "the gradient of this loss is written in closed form and has no derivative of its own: "
            "leave out create_graph=True, or write the loss as a function of your own"
        )


def _marked(ids_RK: Tensor, inside_RK: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the ids that are inside."""
    rows, slots = inside_RK.nonzero(as_tuple=True)
    return rows, ids_RK[rows, slots]
