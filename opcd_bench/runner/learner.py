"""A student that learns by a method: its weights, optimiser and teachers, and no file but these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from opcd_bench.config.suite import Suite
from opcd_bench.distillation import checkpoint
from opcd_bench.distillation.method import Loss, Method
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.parallel import peers
from opcd_bench.distillation.teachers.base import RuntimeTeacher
from opcd_bench.distillation.teachers.build import Teachers
from opcd_bench.distillation.trainer import StepReport, TrainingCore
from opcd_bench.envs.task import Task
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.runner.models import SuiteModels
from opcd_bench.runner.parallel.crew import MAKE, together


class Models(Protocol):
    """What students of a suite share."""

    @property
    def suite(self) -> Suite:
        """The suite's settings."""
        ...

    @property
    def models(self) -> SuiteModels:
        """Its models."""
        ...

    @property
    def teachers(self) -> Teachers:
        """What methods learn from."""
        ...


@dataclass(frozen=True)
class Stage:
    """One stage of a method at work, of optimiser steps ``first`` to ``last`` (0-based, left out).

    Most methods have one.
    """

    method: Method
    loss: Loss
    teacher: RuntimeTeacher
    first: int
    last: int


class Learner:
    """One student and what it learns by. Where several processes hold it, all call it alike."""

    def __init__(
        self, method: Method, task: Task, seed: int, learning_rate: float, shared: Models
    ) -> None:
        self.suite: Suite = shared.suite.for_task(task.name)
        self.models = shared.models
        with together("learner", MAKE, method.name, task.name, seed, learning_rate):
            self.student: LoadedModel = shared.models.fresh_student(seed)
            self.stages = self._stages(method, task, seed, shared.teachers)
            self.core = TrainingCore(self.student, self.suite, learning_rate, peers.current())

    def _stages(self, method: Method, task: Task, seed: int, teachers: Teachers) -> list[Stage]:
        """The method's stages, of which each takes its share of the steps."""
        return [
            Stage(
                method=part,
                loss=teachers.loss_of(part),
                teacher=teachers.build(part, task, seed, self.student),
                first=steps.start,
                last=steps.stop,
            )
            for part, steps in method.spans(self.suite.max_steps)
        ]

    def stage_at(self, step: int) -> Stage:
        """The stage that optimiser step ``step`` (0-based) is of."""
        return next(stage for stage in self.stages if step < stage.last)

    def step(self, step: int, pairs: Sequence[Pair]) -> StepReport:
        """One optimiser step on ``pairs``."""
        with together("learner", "step", step, pairs):
            stage = self.stage_at(step)
            self.core.in_stage(stage.first, stage.last)
            return self.core.step(pairs, stage.loss, stage.teacher)

    def save(self, step: int, folder: Path) -> None:
        """A resumable checkpoint after ``step`` steps, in an existing folder."""
        with together("learner", "save", step, folder):
            with self.models.whole(self.student) as whole:
                checkpoint.save(self.core, self.stage_at(step - 1).teacher, folder, whole)

    def load(self, step: int, folder: Path) -> None:
        """The inverse of ``save``."""
        with together("learner", "load", step, folder):
            # A stage that begins here has a teacher that has not moved yet.
            checkpoint.load(self.core, self.stage_at(step - 1).teacher, folder)

    def load_student(self, folder: Path) -> None:
        """The student and its optimiser alone, of a checkpoint."""
        with together("learner", "load_student", folder):
            checkpoint.load_student(self.core, folder)

    def restore(self) -> None:
        """Give the student its weights before training."""
        with together("learner", "restore"):
            self.models.restore(self.student)
