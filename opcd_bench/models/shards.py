"""Models whose tensors may be shards of larger ones: whole ones out of them, and into them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

DECODE = "opcd_bench_decode"
"""Method of a sharded model in the place of its decoder: the same, with its weights gathered."""


def decoder(model: Any) -> Any:
    """What gives the last hidden states of a model, sharded or not."""
    return vars(model).get(DECODE) or model.get_decoder()


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a part of it alone."""
    return isinstance(tensor, DTensor)


@torch.no_grad()
def gathered(tensor: Tensor) -> Tensor:
    """The whole tensor; of a shard all its processes ask at the same time."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def put(target: Tensor, whole: Tensor) -> None:
    """Write a whole tensor, which every process has, into one that may be a shard of it."""
    target.copy_(like(target, whole.to(target.dtype)))


def like(target: Tensor, whole: Tensor) -> Tensor:
    """A whole tensor, which every process has, sharded as ``target`` is; itself where it is not."""
    if not isinstance(target, DTensor):
        return whole
    on = whole.to(target.device)
    return distribute_tensor(on, target.device_mesh, target.placements, src_data_rank=None)


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds: all of it, unless it is sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
