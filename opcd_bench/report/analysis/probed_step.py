"""Of which step a probed student is: the seeds of a method may have chosen different ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opcd_bench.store.run_reader import RunReader, sealed

CHOSEN = "chosen"
"""In the place of the number: that which the run chose, where methods are compared."""


def step_of(root: Path, student: Mapping[str, Any]) -> int | str:
    """The step of a student as a probe of the suite ``root`` stored it; of the base 0."""
    run, step = root / str(student["name"]), int(student["step"])
    return CHOSEN if sealed(run) and RunReader(run).summary["chosen_step"] == step else step


def step_words(step: int | str) -> str:
    """For readers: ``step 20``, or ``the chosen step``."""
    return "the chosen step" if step == CHOSEN else f"step {step}"
