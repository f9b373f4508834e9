"""What the cells of a grid share: models, teachers, reference scores and told replies."""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.method import Method, Teacher
from opcd_bench.distillation.optimiser import require_eight_bit
from opcd_bench.distillation.parallel import peers
from opcd_bench.distillation.replies import ToldReplies
from opcd_bench.distillation.teachers.build import Teachers
from opcd_bench.envs.task import Task
from opcd_bench.models import adapters, cpu
from opcd_bench.models.loaded import PromptFormat
from opcd_bench.progress import Reporter
from opcd_bench.runner import compatibility, prompt_record
from opcd_bench.runner.adapted import AdaptedTeachers
from opcd_bench.runner.models import SuiteModels
from opcd_bench.runner.parallel.sharded_models import ShardedModels
from opcd_bench.runner.references import References
from opcd_bench.store.suite_dir import SuiteDir


def models_of(suite: Suite, date: str | None) -> SuiteModels:
    """The models of a suite: sharded where several processes compute its cells."""
    here = peers.current()
    return SuiteModels(suite, date) if here is None else ShardedModels(suite, here, date)


def release() -> None:
    """Give back the memory of what nobody uses any more, before other models are loaded.

    What cells share refers to itself in circles, which only the collector sees.
    """
    gc.collect()
    torch.cuda.empty_cache()  # nothing where CUDA is not in use


class Resources:
    """Loads and starts all that a suite's cells need, each thing once.

    ``date`` is what templates that print today's date print; None: what the suite has stored.
    """

    def __init__(
        self,
        suite: Suite,
        suite_dir: SuiteDir,
        console: Reporter,
        *,
        date: str | None = None,
        adapted: type[AdaptedTeachers] = AdaptedTeachers,
    ) -> None:
        if suite.threads is not None:
            torch.set_num_threads(suite.threads)
        if suite.optim == "adamw_8bit":
            require_eight_bit()
        if suite.lora_rank is not None:
            adapters.require_peft()
        self.suite, self.suite_dir, self.console = suite, suite_dir, console
        self.models = models = models_of(suite, date or prompt_record.date_of(suite_dir))
        self.adapted = adapted(suite, suite_dir, models, console)
        self.teachers = Teachers(
            suite, models.initial, models.larger, models.engines, self.adapted.of
        )
        self.references = References(suite, suite_dir, models, console, self.adapted)
        self.told_replies = ToldReplies(
            suite, suite_dir, self.told_by, self.identity_of, models.engine
        )

    def prepare(self, method: Method, task: Task, seed: int) -> None:
        """Train what runs of a task and seed share and a method needs; before a cell begins."""
        self.adapted.prepare(method, task, seed, self)

    def told_by(self, teacher: Teacher, task: Task, seed: int) -> PromptFormat:
        """Who writes as a told teacher: the adapted or larger one, or the student before training.

        A teacher that moves with the student writes with the weights before training.
        """
        if teacher.by is not None:
            return self.adapted.of(teacher, task, seed)
        return self.models.larger() if teacher.weights == "larger" else self.models.initial

    def identity_of(self, teacher: Teacher, task: Task, seed: int) -> dict[str, Any] | None:
        """What the replies of `told_by` depend on."""
        if teacher.by is not None:
            return self.adapted.identity(teacher, task, seed)
        larger = teacher.weights == "larger"
        return self.models.larger_identity if larger else self.models.identity

    def check(self, methods: Sequence[Method]) -> None:
        """Start what is served, and refuse before any step what only a loaded model can tell.

        Raises InvalidLoss for a k above the vocabulary or a loss that the teacher cannot serve,
        ModelError for a larger teacher of another vocabulary.
        """
        for method in methods:
            compatibility.refuse_unservable(self.suite, method)
        self.models.engines.start()
        for part in [part for method in methods for part in method.parts]:
            compatibility.refuse_for_model(self.suite, part, self.models.initial.vocab_size)
            if part.teacher.weights == "larger":
                self.models.larger()
            loss = self.teachers.loss_of(part)
            if self.suite.teacher_engine == "vllm" and part.needs_teacher:
                assert isinstance(loss, Divergence), "compatibility refuses other losses"
                self.teachers.top_k(part).assert_lists(loss)

    def remarks(self) -> Iterator[str]:
        """What a person should know of the pace, before the first step."""
        initial = self.models.initial
        if self.suite.bf16 and initial.device.type == "cpu":
            slow = cpu.bf16_gain() < 1
            yield f"bf16 on this CPU: {cpu.bf16_pace()}" + (
                "; --set bf16=false is faster here" if slow else ""
            )
        if self.suite.engine == "hf" and not cpu.plain(initial.model):
            yield (
                f"{initial.name}: its attention is not plain, so a context is read again for every "
                "response, and responses of unequal length are padded"
            )

    def computing(self) -> dict[str, Any]:
        """What moves the last digits of numbers, as JSON values: stored with every cell."""
        device = self.models.initial.device
        return {
            **self.suite.rounding(),
            "threads": torch.get_num_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        }

    def peak_memory(self) -> int:
        """Peak bytes of this process so far (of the GPU where there is one)."""
        device = self.models.initial.device
        if device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(device))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
