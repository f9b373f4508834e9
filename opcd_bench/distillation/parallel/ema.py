"""A moving average of a sharded student, sharded as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from opcd_bench.distillation.parallel import remembered, sharding, whole
from opcd_bench.distillation.parallel.peers import Peers
from opcd_bench.distillation.teachers.local import FOLDER, SHADOW, EmaTeacher
from opcd_bench.models import adapters, loading, saving, shards
from opcd_bench.models.loaded import LoadedModel


class ShardedEma(EmaTeacher):
    """As `EmaTeacher`; each process moves its share of the average, and all save together."""

    def __init__(self, initial: LoadedModel, rate: float, temperature: float, peers: Peers) -> None:
        self._peers = peers
        super().__init__(initial, rate, temperature)

    def _own(self, initial: LoadedModel) -> LoadedModel:
        made = loading.freeze(adapters.plain_copy(whole.of(initial)))
        return whole.divided(made, self._peers)

    def _now(self, student: LoadedModel) -> Mapping[str, Tensor]:
        """The student's shares, rounded to what it computes in: they may be float32 masters."""
        state = adapters.weights(student)
        return {name: shards.local(tensor).to(self.model.dtype) for name, tensor in state.items()}

    def _show(self) -> None:
        sharding.rest(self.model.model)
        super()._show()

    def save(self, folder: Path) -> None:
        """The model and its average, whole; the first process writes them."""
        full = whole.of(self.model)
        average = remembered.whole(self._average, keep=self._peers.first)
        if not self._peers.first:
            return
        saving.save(full, folder / FOLDER)
        if self._rounded:
            kept = {name: tensor.contiguous() for name, tensor in average.items()}
            save_file(kept, folder / SHADOW)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """The inverse of ``save``."""
        sharding.rest(self.model.model)
        super().load(folder)
