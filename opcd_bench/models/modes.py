"""A module's training modes: eval mode for a while, and every module's own put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def in_eval_mode(model: torch.nn.Module) -> Iterator[None]:
    """Without dropout; every module's mode is put back."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
