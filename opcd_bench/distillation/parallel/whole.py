"""A whole copy of a sharded model in every process, made when it is needed and then dropped."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch

from opcd_bench.distillation.parallel import sharding
from opcd_bench.distillation.parallel.peers import Peers
from opcd_bench.models import cpu, shards
from opcd_bench.models.loaded import LoadedModel

_MOULD = "opcd_bench_mould"


def divided(loaded: LoadedModel, peers: Peers, *, masters: bool = False) -> LoadedModel:
    """Shard a model that lies in this process's memory, in place; `of` makes whole copies of it.

    ``masters``: it is bfloat16, and trained by float32 shards.
    """
    vars(loaded.model)[_MOULD] = _Mould(loaded)
    bf16 = loaded.dtype == torch.bfloat16 and loaded.adapter is None
    sharding.shard(loaded.name, loaded.model, peers, masters=masters, bf16=bf16)
    return dataclasses.replace(loaded, device=peers.device)


def of(sharded: LoadedModel) -> LoadedModel:
    """A whole copy of the model as it is now, which nothing trains; all processes ask for it.

    It is read as ``sharded`` is: its adapter on or off.
    """
    mould: _Mould = vars(sharded.model)[_MOULD]
    return mould.filled(sharded)


class _Mould:
    """What a whole copy of a model is made of besides weights; taken before the model is sharded.

    ``loaded`` is the model as it will be sharded; its copies compute in the type that it has now.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._plain = cpu.plain(loaded.model)
        self._dtypes = {name: p.dtype for name, p in loaded.model.named_parameters()}
        hollow = {id(p): _hollow(p) for p in loaded.model.parameters()}
        self._loaded: LoadedModel = copy.deepcopy(_bare(loaded), hollow)
        self._tokenizer = loaded.tokenizer

    def filled(self, sharded: LoadedModel) -> LoadedModel:
        """As `of` says."""
        sharding.rest(sharded.model)
        now = dict(sharded.model.named_parameters())
        weights = {
            id(hollow): torch.nn.Parameter(
                shards.gathered(now[name]).to(self._dtypes[name]), requires_grad=False
            )
            for name, hollow in self._loaded.model.named_parameters()
        }
        made = copy.deepcopy(self._loaded, weights)
        cpu.known_as(made.model, plain=self._plain)
        adapter = made.adapter
        if adapter is not None and sharded.adapter is not None:
            adapter = dataclasses.replace(adapter, on=sharded.adapter.on)
        device = next(made.model.parameters()).device
        torch.nn.Module.to(made.model, device)  # what is no parameter
        return dataclasses.replace(made, tokenizer=self._tokenizer, device=device, adapter=adapter)


def _bare(loaded: LoadedModel) -> Any:
    """Without the tokenizer, which copies share."""
    return dataclasses.replace(loaded, tokenizer=None)  # type: ignore[arg-type]


def _hollow(parameter: torch.nn.Parameter) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
