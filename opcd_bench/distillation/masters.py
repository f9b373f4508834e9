"""Float32 weights behind a student that computes in bfloat16, so that small steps add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from opcd_bench.config.suite import Suite


def kept(suite: Suite) -> bool:
    """Whether a suite keeps float32 weights: with dtype = 'bfloat16' it says that it does not."""
    return suite.bf16 and suite.dtype != "bfloat16"


class MasterWeights:
    """What the optimiser moves in the place of parameters that are bfloat16.

    A step of AdamW moves a weight by about the learning rate, which bfloat16's 8 significant bits
    round away. So the steps are taken in float32 (Micikevicius et al. 2018, arXiv:1710.03740), and
    the student computes with the masters as rounded after each step. ``parameters`` are the masters
    of rounded ones and the others themselves, in the same order.
    """

    def __init__(self, trained: Sequence[torch.nn.Parameter]) -> None:
        self.parameters = [
            torch.nn.Parameter(p.detach().float()) if p.dtype == torch.bfloat16 else p
            for p in trained
        ]
        self._rounded = [
            (rounded, master)
            for rounded, master in zip(trained, self.parameters, strict=True)
            if rounded is not master
        ]

    @torch.no_grad()
    def gather(self) -> None:
        """Add the gradients of the rounded parameters to their masters', in float32."""
        for rounded, master in self._rounded:
            if rounded.grad is None:
                continue
            if master.grad is None:
                master.grad = rounded.grad.float()
            else:
                master.grad.add_(rounded.grad)
            rounded.grad = None

    @torch.no_grad()
    def show(self) -> None:
        """Give the student its masters, rounded."""
        for rounded, master in self._rounded:
            rounded.copy_(master)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold, beside the student's rounded weights."""
        if not self._rounded:
            return {}
        return {"masters": [master.detach().cpu() for _, master in self._rounded]}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state()``."""
        kept: list[Tensor] = state.get("masters", [])
        for (_, master), tensor in zip(self._rounded, kept, strict=True):
            master.copy_(tensor)
