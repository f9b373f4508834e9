"""Keys and values of a batch of rows, in buffers that grow as tokens are written."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

_GROW = 32


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values in whole buffers of ``(rows, heads, capacity, size)``, grown 32 slots a time.

    A new token is written, not copied, and attention reads the whole buffer: slots that are not
    filled hold zeros and must be masked (``capacity`` is the mask's width). On a CPU the keys lie
    with the slots last, which halves the time of the product with one query.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, keys: Tensor, values: Tensor, length: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device = keys.dtype, keys.device
        self.keys, self.values, self.length = keys, values, length
        self.is_initialized = True

    @classmethod
    def empty(cls, rows: int, slots: int, keys: Tensor, values: Tensor) -> GrowingLayer:
        """Room for so many rows and slots, which count as filled, of heads as in the examples."""
        room = capacity_for(slots)
        return cls(_keys_of(keys, rows, room), _values_of(values, rows, room), slots)

    @property
    def capacity(self) -> int:
        """Slots of the buffers, filled or not."""
        return int(self.keys.shape[-2])

    def get_seq_length(self) -> int:
        """Filled slots."""
        return self.length

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append ``(rows, heads, tokens, size)`` and return the whole buffers."""
        begin, end = self.length, self.length + key_states.shape[-2]
        if end > self.capacity:
            keys, values, room = self.keys, self.values, capacity_for(end)
            self.keys = _keys_of(keys, len(keys), room)
            self.values = _values_of(values, len(values), room)
            self.keys[:, :, :begin] = keys[:, :, :begin]
            self.values[:, :, :begin] = values[:, :, :begin]
        self.keys[:, :, begin:end] = key_states
        self.values[:, :, begin:end] = value_states
        self.length = end
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows, and free the memory of the others."""
        keys = _keys_of(self.keys, len(indices), self.capacity)
        self.keys = keys.copy_(self.keys[indices])
        self.values = self.values.index_select(0, indices)


def as_argument(model: PreTrainedModel, cache: Cache) -> dict[str, Cache]:
    """A cache under the name that ``model.forward`` gives it: `cache` from transformers 5.24 on."""
    architecture: Any = type(model)
    return {_argument_of(architecture): cache}


@functools.cache
def _argument_of(architecture: Any) -> str:
    """Read once: a decoding step asks for every token."""
    known = inspect.signature(architecture.forward).parameters
    return "cache" if "cache" in known else "past_key_values"


def capacity_for(length: int) -> int:
    """Slots of a buffer that holds ``length``: the next multiple of 32."""
    return -(-length // _GROW) * _GROW


def _keys_of(like: Tensor, rows: int, slots: int) -> Tensor:
    """A buffer of zeros for keys (rows, heads, slots, size)."""
    # Zeros: what is not written yet is masked, and 0 times garbage must be 0.
    _, heads, _, size = like.shape
    if like.device.type == "cpu":
        return like.new_zeros((rows, heads, size, slots)).transpose(2, 3)
    return like.new_zeros((rows, heads, slots, size))


def _values_of(like: Tensor, rows: int, slots: int) -> Tensor:
    """A buffer of zeros for values (rows, heads, slots, size)."""
    return like.new_zeros((rows, like.shape[1], slots, like.shape[3]))


def held(cache: Cache) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of each layer of a cache of ``DynamicLayer``."""
    layers: list[Any] = cache.layers
    return [(layer.keys, layer.values) for layer in layers]


def additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where allowed, else a number so low that softmax gives 0, yet finite in bfloat16 too.

    Finite, so that a row of padding, which may attend to nothing, gives no NaN.
    """
    low = torch.finfo(torch.float16 if dtype == torch.float16 else torch.bfloat16).min
    mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return mask.masked_fill_(~allowed, low)
