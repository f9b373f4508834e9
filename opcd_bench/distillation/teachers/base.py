"""What the trainer asks of a teacher, whatever kind it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from opcd_bench.distillation.method import StepLoss
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.teachers.output import TeacherOutput
from opcd_bench.models.loaded import LoadedModel, PromptFormat


class StudentPass(Protocol):
    """The student's own pass over a micro-batch, made when somebody first asks for it."""

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        ...

    def top_ids(self, k: int) -> Tensor:
        """The student's k likeliest ids at each of the N reply positions, shape (N, k)."""
        ...


class RuntimeTeacher(Protocol):
    """A teacher at work: who scores replies, and what becomes of it as the student learns."""

    @property
    def prompts(self) -> PromptFormat:
        """Whose chat template and window the told prompts meet."""
        ...

    @property
    def scores(self) -> bool:
        """Whether it scores tokens at all: what a run's cost counts."""
        ...

    def prepare(self, pairs: Sequence[Pair], *, processes: int = 1) -> None:
        """All replies of the next step, before the first micro-batch of them is scored.

        ``processes``: of a sharded model, all of which call it, and later score a share each.
        """
        ...

    def score(
        self, pairs: Sequence[Pair], loss: StepLoss, student: StudentPass, *, step: int
    ) -> TeacherOutput:
        """What it says of a micro-batch of optimiser step ``step`` (0-based), without gradient."""
        ...

    def after_step(self, student: LoadedModel) -> None:
        """The student has taken a step."""
        ...

    def save(self, folder: Path) -> None:
        """Put what a resumed run needs of it into a checkpoint's folder."""
        ...

    def load(self, folder: Path) -> None:
        """The inverse of ``save``."""
        ...


class Unmoved:
    """What teachers share whose weights no training moves: there is nothing to do or to keep."""

    def prepare(self, pairs: Sequence[Pair], *, processes: int = 1) -> None:
        """Nothing to prepare."""

    def after_step(self, student: LoadedModel) -> None:
        """Nothing follows the student."""

    def save(self, folder: Path) -> None:
        """Nothing to keep."""

    def load(self, folder: Path) -> None:
        """Nothing was kept."""
