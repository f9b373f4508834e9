"""A student as its checkpoint is published: an adapter merged into the weights, and rounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

import torch
from transformers import PreTrainedModel

from opcd_bench.models import adapters
from opcd_bench.models.loaded import LoadedModel

_MERGED: WeakSet[PreTrainedModel] = WeakSet()


@contextmanager
def as_published(student: LoadedModel) -> Iterator[LoadedModel]:
    """The weights that `saving.save` would write, in the module itself; without an adapter, as is.

    After the block every weight is to the last bit what it was: the base weights wait in the
    CPU's memory. Within it nothing else may read the module, nor the model before training
    (`is_merged` tells).
    """
    if student.adapter is None:
        yield student
        return
    kept = []
    _MERGED.add(student.model)
    try:
        with torch.no_grad():
            for layer in student.adapter.layers:
                base = layer.get_base_layer().weight
                kept.append((base, base.detach().to("cpu", copy=True)))
                base.copy_(adapters.merged_weight(layer))
        yield adapters.before(student)
    finally:
        with torch.no_grad():
            for base, stored in kept:
                base.copy_(stored)
        _MERGED.discard(student.model)


def is_merged(loaded: LoadedModel) -> bool:
    """Whether the module computes a published student now, whatever ``loaded`` is called."""
    return loaded.model in _MERGED
