"""What a cell says when the GPU's memory is exhausted: which setting to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from opcd_bench.config import Suite
from opcd_bench.errors import CellFailed
from opcd_bench.model_source import first_line

Phase = Literal["loading", "writing", "training", "scoring"]


@contextmanager
def named_knob(phase: Phase, suite: Suite) -> Iterator[None]:
    """Turn a GPU that is out of memory into CellFailed, with the settings that this phase hangs on.

    What the cell has stored stays, and the same command goes on from its last checkpoint.
    """
    if phase == "loading" and torch.cuda.is_available():
        torch.cuda.empty_cache()  # what a cell that failed left with the allocator
    try:
        yield
    except torch.OutOfMemoryError as error:
        knobs = "; ".join(_knobs(phase, suite))
        raise CellFailed(
            f"the GPU is out of memory while {phase}: {knobs}. Nothing is lost: change that and "
            f"type the same command again ({first_line(error)})"
        ) from error


def _knobs(phase: Phase, suite: Suite) -> list[str]:
    lora = "--set lora_rank=16 (one copy of the weights, an adapter trained; moves numbers)"
    rollout = (
        f"lower rollout_batch_size, which is {suite.rollout_batch_size} (moves no number): "
        f"--set rollout_batch_size={max(1, suite.rollout_batch_size // 2)}"
    )
    if phase in ("writing", "scoring"):
        return [rollout]
    found = []
    if phase == "training" and suite.micro_batch_size > 1:
        found.append(
            f"lower micro_batch_size, which is {suite.micro_batch_size}: "
            f"--set micro_batch_size={suite.micro_batch_size // 2}"
        )
    if phase == "training" and not suite.gradient_checkpointing:
        found.append("--set gradient_checkpointing=true (slower; moves no number)")
    if suite.lora_rank is None:
        found.append(lora)
    elif suite.dtype != "bfloat16":
        found.append("--set dtype=bfloat16 (the frozen weights at half the size; moves numbers)")
    if phase == "training" and suite.optim == "adamw" and suite.lora_rank is None:
        found.append("--set optim=adamw_8bit (a quarter of the moments; moves numbers)")
    return found or ["lower max_completion_length, or use a smaller model"]
