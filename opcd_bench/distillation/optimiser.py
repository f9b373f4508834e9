"""The one optimiser of a student: AdamW, or bitsandbytes' AdamW with 8-bit moments."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch

from opcd_bench.config.suite import Suite
from opcd_bench.errors import MissingPackage

EIGHT_BIT_FROM = 4096
"""Parameters with fewer entries keep 32-bit moments (bitsandbytes' own default)."""


def optimiser(
    parameters: Sequence[torch.nn.Parameter], suite: Suite, learning_rate: float
) -> torch.optim.Optimizer:
    """AdamW over ``parameters`` as the suite sets it; raises MissingPackage without bitsandbytes.

    8-bit moments are quantised in blocks of 256 (Dettmers et al. 2022, arXiv:2110.02861), on a GPU
    and, from bitsandbytes 0.50 on, on a CPU.
    """
    words: dict[str, Any] = {
        "lr": learning_rate,
        "betas": (suite.adam_beta1, suite.adam_beta2),
        "weight_decay": suite.weight_decay,
    }
    if suite.optim == "adamw":
        return torch.optim.AdamW(parameters, **words, fused=True)
    require_eight_bit()
    from bitsandbytes.optim import AdamW8bit

    found: torch.optim.Optimizer = AdamW8bit(parameters, **words, min_8bit_size=EIGHT_BIT_FROM)
    return found


def require_eight_bit() -> None:
    """Raise MissingPackage where optim = 'adamw_8bit' cannot be had."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingPackage(
            "bitsandbytes", "pip install 'opcd-bench[adam8bit]'", "optim = 'adamw_8bit' needs it"
        )
