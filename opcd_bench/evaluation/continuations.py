"""Log-probs over the vocabulary at the positions that predict a continuation; without gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from opcd_bench.models import adapters
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.modes import in_eval_mode
from opcd_bench.progress import beat


@dataclass(frozen=True)
class Continuation:
    """Token ids that follow others; ``id`` names them by their content."""

    id: str
    before: tuple[int, ...]
    after: tuple[int, ...]


def logps(loaded: LoadedModel, continuations: Sequence[Continuation]) -> Iterator[Tensor]:
    """Shape (tokens of ``after``, V) for each, in order: one at a time, in float32 at least."""
    for number, one in enumerate(continuations):
        beat(reading=f"{number}/{len(continuations)} texts")
        yield _logps(loaded, one)


@torch.no_grad()
def _logps(loaded: LoadedModel, one: Continuation) -> Tensor:
    ids = [*one.before, *one.after]
    model: Any = loaded.model
    with adapters.active(loaded), in_eval_mode(model):
        ids_BT = torch.tensor([ids], device=model.device)
        logits_TV = model(input_ids=ids_BT, use_cache=False).logits[0]
    logits_NV: Tensor = logits_TV[len(one.before) - 1 : -1, : loaded.vocab_size]
    if logits_NV.dtype != torch.float64:
        logits_NV = logits_NV.float()
    return torch.log_softmax(logits_NV, dim=-1)
