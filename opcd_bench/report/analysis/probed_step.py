"""Of which step a probed student is: the seeds of a method may have chosen different ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opcd_bench.store.run_reader import RunReader, sealed

CHOSEN = "chosen"
"""In the place of the number: that which the run chose, where methods are compared."""


def steps_of(root: Path, students: Sequence[Mapping[str, Any]]) -> list[int | str]:
    """The step of each student as a probe of the suite ``root`` stored it; of the base 0.

    `CHOSEN` where all probed seeds of its method, task and learning rate were probed at the step
    that they chose; else seeds probed at one step would be torn apart where one has chosen it.
    """
    chosen = [_is_chosen(root, student) for student in students]
    keys = [
        tuple(student[key] for key in ("task", "method", "learning_rate")) for student in students
    ]
    seeds: dict[tuple[Any, ...], set[int]] = {}
    there: dict[tuple[Any, ...], set[int]] = {}
    for key, student, is_chosen in zip(keys, students, chosen, strict=True):
        seeds.setdefault(key, set()).add(student["seed"])
        there.setdefault(key, set()).update([student["seed"]] * is_chosen)
    return [
        CHOSEN if is_chosen and there[key] == seeds[key] else int(student["step"])
        for key, student, is_chosen in zip(keys, students, chosen, strict=True)
    ]


def _is_chosen(root: Path, student: Mapping[str, Any]) -> bool:
    run = root / str(student["name"])
    return sealed(run) and RunReader(run).summary["chosen_step"] == int(student["step"])


def step_words(step: int | str) -> str:
    """For readers: ``step 20``, or ``the chosen step``."""
    return "the chosen step" if step == CHOSEN else f"step {step}"
