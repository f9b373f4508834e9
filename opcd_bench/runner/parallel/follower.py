"""What a process does that follows the first one: the same models, the same steps, and no files."""

from __future__ import annotations

from typing import Any, NoReturn

import torch

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Teacher
from opcd_bench.distillation.parallel import peers
from opcd_bench.distillation.teachers.build import Teachers
from opcd_bench.envs.task import Task
from opcd_bench.runner import registry
from opcd_bench.runner.learner import Learner
from opcd_bench.runner.parallel import crew
from opcd_bench.runner.parallel.sharded_models import ShardedModels

SHARED = "shared"


class Followed:
    """What students of a suite share, as the first process has it."""

    def __init__(self, suite: Suite, date: str | None) -> None:
        here = peers.current()
        assert here is not None
        if suite.threads is not None:
            torch.set_num_threads(suite.threads)
        self.suite = suite
        self.models = models = ShardedModels(suite, here, date)
        self.teachers = Teachers(suite, models.initial, models.larger, models.engines, _adapted)


def follow() -> None:
    """Follow the first process until it is done."""
    crew.follow({"models": _models, "learner": _learner})


def _models(targets: dict[str, Any], suite: Suite, date: str | None) -> ShardedModels:
    targets.clear()  # those of a suite before, with all that they hold
    targets[SHARED] = followed = Followed(suite, date)
    return followed.models


def _learner(
    targets: dict[str, Any], method: str, task: str, seed: int, learning_rate: float
) -> Learner:
    shared: Followed = targets[SHARED]
    suite = shared.suite
    return Learner(
        registry.method(method, suite.method_files),
        registry.task(task, suite.task_files, history=suite.history, data_dir=suite.data_dir),
        seed,
        learning_rate,
        shared,
    )


def _adapted(teacher: Teacher, task: Task, seed: int) -> NoReturn:
    raise AssertionError("compatibility refuses adapted teachers of several processes")
