"""What a checkpoint holds of a student and its teacher, so that a run goes on byte for byte."""

from __future__ import annotations

from pathlib import Path

import torch

from opcd_bench.distillation.teachers.base import RuntimeTeacher
from opcd_bench.distillation.trainer import TrainingCore
from opcd_bench.models import adapters, saving
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.store.checkpoints import MODEL

OPTIMISER, ADAPTER = "optimiser.pt", "adapter"
"""Beside the model, a Hugging Face folder: what the optimiser needs to go on and, where there is
one, the adapter (peft's own format), which the model has merged and so rounded. A teacher that
moves adds its own (`teachers.local`)."""


def save(
    core: TrainingCore,
    teacher: RuntimeTeacher,
    folder: Path,
    whole: LoadedModel | None = None,
) -> None:
    """A resumable checkpoint in an existing folder; ``model/`` opens with transformers as it is.

    ``whole``: the student, where it is sharded; all processes ask, and the first one writes.
    """
    student, state = whole or core.student, core.state()
    teacher.save(folder)
    if core.peers is not None and not core.peers.first:
        return
    saving.save(student, folder / MODEL)
    if student.adapter is not None:
        adapters.save(student, folder / ADAPTER)
    torch.save(state, folder / OPTIMISER)


def load(core: TrainingCore, teacher: RuntimeTeacher, folder: Path) -> None:
    """The inverse of ``save``."""
    load_student(core, folder)
    teacher.load(folder)


def load_student(core: TrainingCore, folder: Path) -> None:
    """The student and its optimiser alone."""
    if core.student.adapter is None:
        saving.load_weights(core.student, folder / MODEL)
    else:
        adapters.load(core.student, folder / ADAPTER)
    core.restore(torch.load(folder / OPTIMISER, map_location="cpu", weights_only=True))
