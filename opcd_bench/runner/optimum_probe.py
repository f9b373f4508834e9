"""The optimum probe: how far students are from the best that one without context can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from torch import Tensor

from opcd_bench.envs.task import Example, Message, Split, Task, describe_task
from opcd_bench.evaluation import optimum
from opcd_bench.evaluation.optimum import Optima
from opcd_bench.evaluation.task_scores import contexts_of, first_examples
from opcd_bench.hashing import digest
from opcd_bench.models import saving
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.prompts import prompt_ids, told_ids
from opcd_bench.progress import Reporter
from opcd_bench.runner.plugins import asked as guarded
from opcd_bench.runner.probing import Student
from opcd_bench.runner.resources import Resources
from opcd_bench.store.suite_dir import OPTIMUM_PROBE


@dataclass(frozen=True)
class Asked:
    """Which examples are used, and at most how many contexts of a pool."""

    split: Split = "dev"
    items: int = 64
    contexts: int = 64


def is_of(method: Mapping[str, Any]) -> bool:
    """Whether a method, as a run describes it, is taught by the teacher whose optimum is exact.

    That is the student before training, which reads the context.
    """
    parts = [method, *([method["begins"]] if "begins" in method else [])]
    return all(
        part["teacher"]["weights"] == "initial"
        and {part["teacher"]["reads"], part["writer"].get("reads", "context")} == {"context"}
        for part in parts
    )


class OptimumProbe:
    """Compares students with the optima over a task's contexts; rows are kept in ``shared/``.

    The teacher is the student before training, at the temperature of the suite's training.
    """

    def __init__(self, resources: Resources, asked: Asked, console: Reporter) -> None:
        self.resources, self.asked, self.console = resources, asked, console
        self._told: dict[tuple[str, int, str], tuple[Optima, Tensor, int]] = {}

    def probe(self, student: Student, task: Task) -> None:
        """Rows of a student, made where they are not stored, and listed."""
        examples = first_examples(task, self.asked.split, self.asked.items)
        guarded(task, partial(contexts_of, task))
        seed = int(student.about["seed"])
        loaded = student.load()
        key = {
            "teacher": self.resources.models.identity,
            "weights": saving.weights_hash(loaded.model),
            "task": describe_task(task),
            "examples": [example.id for example in examples],
            "temperature": self.resources.suite.temperature,
            "asked": asdict(self.asked),
            "seed": seed,
        }
        shared = self.resources.suite_dir.shared(f"optimum-{task.name}", digest(key))
        if not shared.has("rows"):
            title = f"{task.name}: optimum and {student.about['name']}"
            rows = []
            with self.console.phase(title, len(examples), "prompts") as phase:
                for example in examples:
                    rows.append(self._row(loaded, task, example, seed))
                    phase.advance(1)
            shared.put("rows", rows)
        row = {
            "student": dict(student.about),
            "task": task.name,
            "protocol": asdict(self.asked),
            "shared": shared.path.name,
            "name": "rows",
        }
        self.resources.suite_dir.merge({OPTIMUM_PROBE: [row]})

    def _row(self, loaded: LoadedModel, task: Task, example: Example, seed: int) -> dict[str, Any]:
        temperature = self.resources.suite.temperature
        messages = [dict(message) for message in task.open(example, 0).messages]
        asked = str(messages[-1]["content"])
        before, answer = optimum.answer_ids(loaded, example.reference, asked, task.name)
        plain = [(*prompt_ids(loaded, messages), *before)]
        (student_V,) = optimum.next_logps(loaded, plain, temperature)
        best, own_V, contexts = self._teachers(task, example, messages, seed, before)
        found = optimum.compared(student_V, best, own_V, answer)
        return {"example_id": example.id, "contexts": contexts, **found}

    def _teachers(
        self,
        task: Task,
        example: Example,
        messages: list[Message],
        seed: int,
        before: tuple[int, ...],
    ) -> tuple[Optima, Tensor, int]:
        """The optima over the contexts that the prompt may belong to, told its own, and how many.

        Read once for all students.

        ``before``: the answer's tokens before its last.
        """
        contexts, initial = task.contexts(), self.resources.models.initial
        key = (task.name, 0 if contexts.by_example else seed, example.id)
        if key not in self._told:
            own = contexts.of(task.name, seed, example.id)
            may = contexts.candidates(task.name, seed, example.id)[: self.asked.contexts]
            prompts = [(*told_ids(initial, messages, one), *before) for one in (*may, own)]
            found = optimum.next_logps(initial, prompts, self.resources.suite.temperature)
            self._told[key] = (optimum.optima(found[:-1]), found[-1].clone(), len(may))
        return self._told[key]
