"""Builds the runtime teacher of a method, and says how it serves the method's loss."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.served import served
from opcd_bench.distillation.method import Loss, Method, Teacher
from opcd_bench.distillation.parallel import peers
from opcd_bench.distillation.parallel.ema import ShardedEma
from opcd_bench.distillation.teachers.base import RuntimeTeacher
from opcd_bench.distillation.teachers.local import (
    EmaTeacher,
    FrozenTeacher,
    LiveTeacher,
    NoTeacher,
    Shuffled,
)
from opcd_bench.distillation.teachers.top_k import TopKTeacher
from opcd_bench.envs.task import Task
from opcd_bench.errors import InvalidLoss
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.rollout.engines import Engines
from opcd_bench.seeds import seed_of


class Teachers:
    """The teachers of a suite's methods; what is served is started once, and shared by cells.

    ``initial`` is the student before training; ``larger`` gives the larger teacher when it is first
    needed, in this process or behind a server; ``adapted`` one that was adapted to a task, of a
    seed.
    """

    def __init__(
        self,
        suite: Suite,
        initial: LoadedModel,
        larger: Callable[[], PromptFormat],
        engines: Engines,
        adapted: Callable[[Teacher, Task, int], LoadedModel],
    ) -> None:
        self.suite, self.initial, self.larger, self.engines = suite, initial, larger, engines
        self.adapted = adapted
        self._top_k: dict[str, TopKTeacher] = {}

    def build(self, method: Method, task: Task, seed: int, student: LoadedModel) -> RuntimeTeacher:
        """The method's teacher at work in a run of a task and seed."""
        choice, temperature = method.teacher, self.suite.temperature
        if not method.needs_teacher:
            return NoTeacher(student)
        if self.suite.teacher_engine == "vllm":
            return self.top_k(method)
        teacher: FrozenTeacher
        if choice.weights == "live":
            teacher = LiveTeacher(student, temperature)
        elif choice.weights == "ema":
            assert choice.rate is not None, "Teacher refuses an average without a rate"
            here = peers.current()
            if here is None:
                teacher = EmaTeacher(self.initial, choice.rate, temperature)
            else:
                teacher = ShardedEma(self.initial, choice.rate, temperature, here)
        elif choice.weights == "larger":
            larger = self.larger()
            assert isinstance(larger, LoadedModel), "the suite refuses a served teacher read by hf"
            teacher = FrozenTeacher(larger, temperature)
        elif choice.weights == "adapted":
            teacher = FrozenTeacher(self.adapted(choice, task, seed), temperature)
        else:
            teacher = FrozenTeacher(self.initial, temperature)
        if choice.rows == "shuffled":
            return Shuffled(teacher, partial(seed_of, "rows", task.name, seed))
        return teacher

    def top_k(self, method: Method) -> TopKTeacher:
        """The vLLM that scores for the method's teacher, started once for each set of weights."""
        prompts = self.larger() if method.teacher.weights == "larger" else self.initial
        weights = prompts if isinstance(prompts, LoadedModel) else None
        key = "served" if weights is None else weights.name
        if key not in self._top_k:
            vllm, window = self.engines.scoring_vllm(weights)
            self._top_k[key] = TopKTeacher(vllm, weights, prompts, window, self.suite.temperature)
        return self._top_k[key]

    def loss_of(self, method: Method) -> Loss:
        """The method's loss as its teacher serves it; InvalidLoss where it cannot."""
        loss = method.loss
        if self.suite.teacher_engine == "hf" or not method.needs_teacher:
            return loss
        assert isinstance(loss, Divergence), "compatibility refuses other losses"
        try:
            return served(
                loss,
                self.top_k(method).tier,
                missing_ids=self.suite.missing_ids,
                temperature=self.suite.temperature,
            )
        except InvalidLoss as error:
            raise InvalidLoss(f"method {method.name!r}: {error}") from None
