"""Float32 weights behind a student that computes in bfloat16, so that small steps add up."""

from __future__ import annotations

import weakref
from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from opcd_bench.config.suite import Suite


def kept(suite: Suite) -> bool:
    """Whether a suite keeps float32 weights: with dtype = 'bfloat16' it says that it does not."""
    return suite.bf16 and suite.dtype != "bfloat16"


BLOCK = 1 << 18
"""Numbers that are widened at a time where gradients add up on a CPU: what its cache holds."""


class MasterWeights:
    """What the optimiser moves in the place of parameters that are bfloat16.

    A step of AdamW moves a weight by about the learning rate, which bfloat16's 8 significant bits
    round away. So the steps are taken in float32 (Micikevicius et al. 2018, arXiv:1710.03740), and
    the student computes with the masters as rounded after each step. ``parameters`` are the masters
    of rounded ones and the others themselves, in the same order. A rounded gradient is added to its
    master's as soon as a backward pass has it, and dropped.
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
        for rounded, master in self._rounded:
            weakref.finalize(self, _take_gradients(rounded, _Sum(master)).remove)

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


_HOOKS: MutableMapping[Tensor, RemovableHandle] = WeakTensorKeyDictionary()
"""What takes a parameter's gradient now."""


def _take_gradients(rounded: Any, total: _Sum) -> RemovableHandle:
    """From now on a rounded parameter's gradients go there, and nowhere else."""
    if rounded in _HOOKS:  # of a core that trained it before
        _HOOKS[rounded].remove()
    _HOOKS[rounded] = rounded.register_post_accumulate_grad_hook(total.take)
    return _HOOKS[rounded]


class _Sum:
    """The gradient of one master, float32, summed over the backward passes of a step."""

    def __init__(self, master: torch.nn.Parameter) -> None:
        self._master = master
        self._kept: Tensor | None = None

    @torch.no_grad()
    def take(self, rounded: Tensor) -> None:
        """Add a rounded parameter's gradient, and drop it there."""
        added, rounded.grad = rounded.grad, None
        if added is None:
            return
        total = self._master.grad
        if total is None:
            self._master.grad = self._begun(added)
        elif total.is_cpu and added.is_contiguous():
            # all at once, PyTorch would widen all of it first, into memory that is new each time
            flat, other = total.view(-1), added.view(-1)
            for start in range(0, len(flat), BLOCK):
                flat[start : start + BLOCK].add_(other[start : start + BLOCK])
        else:
            total.add_(added)

    def _begun(self, first: Tensor) -> Tensor:
        """The sum, one gradient so far; a CPU writes it where the last step's was.

        The system clears memory that is new, which takes longer than to copy a gradient.
        """
        if not first.is_cpu:
            return first.float()
        if self._kept is None:
            self._kept = torch.empty_like(first, dtype=torch.float32)
        return self._kept.copy_(first)
