"""What an optimiser remembers, whole out of its shards, and sharded again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from opcd_bench.models import shards


def whole(value: Any, *, keep: bool) -> Any:
    """``value`` with every shard made whole, in the CPU's memory; all processes ask for it.

    Those that do not ``keep`` it get None for each tensor. One tensor at a time is whole on a GPU.
    """
    if isinstance(value, Tensor):
        tensor = shards.gathered(value)
        return tensor.detach().cpu() if keep else None
    if isinstance(value, Mapping):
        return {key: whole(one, keep=keep) for key, one in value.items()}
    if isinstance(value, list):
        return [whole(one, keep=keep) for one in value]
    return value


def sharded(
    remembered: Mapping[str, Any], parameters: Sequence[torch.nn.Parameter]
) -> dict[str, Any]:
    """The state of an optimiser of ``parameters``, sharded as they are."""
    state = {
        place: {key: _sharded(value, parameters[place]) for key, value in own.items()}
        for place, own in remembered["state"].items()
    }
    return {**remembered, "state": state}


def _sharded(value: Any, parameter: Tensor) -> Any:
    """What has an entry for each of the parameter's is sharded; a count of steps has not."""
    own = isinstance(value, Tensor) and value.dim() > 0 and value.shape == parameter.shape
    return shards.like(parameter, value) if own else value
