"""A model of which each process holds a share of every weight (FSDP2), and what is done to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)

from opcd_bench.distillation.parallel.peers import Peers
from opcd_bench.errors import ModelError
from opcd_bench.models import shards


def shard(
    name: str, model: Any, peers: Peers, *, masters: bool = False, bf16: bool = False
) -> None:
    """Shard a model's weights among the peers, in place: each layer by itself, and then the rest.

    Embeddings and head are one group, so that tied ones stay tied. ``masters``: the shards are
    float32, and computed with in bfloat16. ``bf16``: gradients are summed in float32. They are
    summed, not averaged: token weights are means over the whole step already. Raises ModelError
    where ``name`` has no list of layers.
    """
    policy = MixedPrecisionPolicy()
    if masters or bf16:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in _layers(name, model):
        if masters:
            _float(layer.parameters())
        fully_shard(layer, mesh=peers.mesh, mp_policy=policy)
    if masters:
        _float(p for p in model.parameters() if not shards.is_sharded(p))
    model.__dict__[shards.DECODE] = lambda *args, **words: model.get_decoder()(*args, **words)
    fully_shard(model, mesh=peers.mesh, mp_policy=policy)
    # Decoder and head are called apart: the decoder as the whole model's forward pass, after which
    # the root's weights, the head among them, stay whole until the backward pass is over.
    register_fsdp_forward_method(model, shards.DECODE)
    for module in groups(model):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo has no other


def groups(model: torch.nn.Module) -> list[FSDPModule]:
    """The modules whose weights are gathered together."""
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def rest(model: torch.nn.Module) -> None:
    """Give back what is gathered: every weight is a shard from now on."""
    for module in groups(model):
        module.reshard()


def clip(parameters: Iterable[torch.nn.Parameter], limit: float) -> float:
    """Clip the gradients by their norm over all processes; the norm before, the same in each."""
    return float(shards.gathered(torch.nn.utils.clip_grad_norm_(parameters, limit)))


def _float(parameters: Iterable[torch.nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.data = parameter.data.float()


def _layers(name: str, model: Any) -> Sequence[torch.nn.Module]:
    """The decoder's layers: the list of modules that has most of its weights."""
    lists = [m for m in model.get_decoder().modules() if isinstance(m, torch.nn.ModuleList)]
    if not lists:
        raise ModelError(
            f"{name}: its decoder has no list of layers, so it cannot be divided among processes; "
            "use --processes 1"
        )
    sizes = [sum(parameter.numel() for parameter in one.parameters()) for one in lists]
    return list(lists[sizes.index(max(sizes))])
