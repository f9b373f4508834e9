"""Scores that methods are compared with: base and ceiling, retention before; each measured once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from opcd_bench.config.suite import Suite
from opcd_bench.envs.task import Split, Task, describe_task
from opcd_bench.evaluation import retention, task_scores
from opcd_bench.evaluation.scores import Score
from opcd_bench.hashing import digest
from opcd_bench.models import adapters
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.progress import Reporter
from opcd_bench.rollout.engine import Engine
from opcd_bench.runner import registry
from opcd_bench.runner.models import SuiteModels
from opcd_bench.store.suite_dir import SharedDir, SuiteDir


class References:
    """Scores models for a suite, and keeps those that its cells share in ``shared/``."""

    def __init__(
        self, suite: Suite, suite_dir: SuiteDir, models: SuiteModels, console: Reporter
    ) -> None:
        self.suite, self.suite_dir, self.models, self.console = suite, suite_dir, models, console
        self._measured: dict[tuple[str, ...], Score] = {}

    def score(
        self,
        task: Task,
        split: Split,
        loaded: PromptFormat,
        engine: Engine,
        seed: int,
        *,
        told: bool = False,
        final: bool = False,
    ) -> Score:
        """Score a model on a split: ``eval_samples`` samples an example on test, one on dev."""
        if (split == "test") != final:
            raise AssertionError("test is scored once, after the choice; nothing else may read it")
        suite = self.suite.for_task(task.name)
        return task_scores.evaluate(
            task,
            split,
            items=suite.test_items if final else suite.dev_items,
            samples=suite.eval_samples if final else 1,
            told=told,
            loaded=loaded,
            engine=engine,
            suite=suite,
            seed=0 if suite.eval_temperature == 0 else seed,
        )

    def base(self, task: Task, split: Split, seed: int) -> Score:
        """The student before training, plain: once per task, split and decoding seed."""
        return self._reference("base", task, split, seed)

    def of_cell(self, task: Task, seed: int) -> list[dict[str, str]]:
        """Base and ceiling on test and base retention, scored once; where each is stored."""
        larger = self.suite.teacher_model is not None
        readings = ["base", "ceiling", *(["ceiling-larger"] if larger else [])]
        folder = self.folder(task).path.name
        found = []
        for reading in readings:
            self._reference(reading, task, "test", seed)
            name = self._name(reading, "test", seed)
            found.append({"reading": reading, "shared": folder, "name": name})
        self.base_retention()
        for name in self.suite.retention:
            shared = self.retention_folder(name).path.name
            found.append({"reading": "base", "shared": shared, "name": "base"})
        return found

    def folder(self, task: Task) -> SharedDir:
        """Where a task's base and ceiling samples are shared."""
        key = digest(
            {
                "model": self.models.identity,
                "suite": self._scoring(self.suite.for_task(task.name)),
                "task": describe_task(task),
            }
        )
        return self.suite_dir.shared(task.name, key)

    def _name(self, reading: str, split: Split, seed: int) -> str:
        return f"{reading}-{split}-s{0 if self.suite.eval_temperature == 0 else seed}"

    def retention_folder(self, name: str) -> SharedDir:
        """Where a retention task's samples before training are shared."""
        depends = {
            "model": self.models.identity,
            "suite": self._scoring(self.suite),
            "retention": name,
        }
        own = task_scores.retention_sampling(self.suite)
        length = own.max_completion_length
        # What older suites share keeps its name: they decode all alike.
        if own != dataclasses.replace(
            task_scores.eval_sampling(self.suite), max_completion_length=length
        ):
            depends["sampling"] = dataclasses.asdict(own)
        return self.suite_dir.shared(f"retention-{name}", digest(depends))

    def _reference(self, reading: str, task: Task, split: Split, seed: int) -> Score:
        name = self._name(reading, split, seed)
        shared = self.folder(task)
        loaded = self.models.larger() if reading == "ceiling-larger" else self.models.initial

        def compute() -> Score:
            with self.console.phase(f"{task.name}: {reading} on {split}", None, "samples") as phase:
                score = self.score(
                    task,
                    split,
                    loaded,
                    self.models.engine(loaded),
                    seed,
                    told=reading != "base",
                    final=split == "test",
                )
                phase.advance(len(score.samples))
                return score

        return self._shared(shared, name, compute)

    def retention(self, loaded: LoadedModel, engine: Engine) -> list[Score]:
        """Every retention task of the suite, with the same template and decoding as ever."""
        return [self._retain(name, loaded, engine) for name in self.suite.retention]

    def base_retention(self) -> list[Score]:
        """Retention of the student before training, scored once and shared."""
        found = []
        for name in self.suite.retention:

            def compute(name: str = name) -> Score:
                with self.console.phase(f"retention {name}: base", None, "prompts") as phase:
                    initial = self.models.initial
                    score = self._retain(name, initial, self.models.engine(initial))
                    phase.advance(len(score.samples))
                    return score

            found.append(self._shared(self.retention_folder(name), "base", compute))
        return found

    def _retain(self, name: str, loaded: LoadedModel, engine: Engine) -> Score:
        suite = self.suite
        if name in registry.plugin_files(registry.TASKS_PACKAGE):
            task = registry.task(name, history=suite.history, data_dir=suite.data_dir)
            items = suite.retention_items or len(task.examples("test"))
            scored = task_scores.evaluate(
                task,
                "test",
                items=items,
                samples=1,
                told=False,
                loaded=loaded,
                engine=engine,
                suite=suite,
                seed=0,
            )
            return dataclasses.replace(scored, split="retention")
        return self._lm_eval(name, loaded, engine)

    def _lm_eval(self, name: str, loaded: LoadedModel, engine: Engine) -> Score:
        suite = self.suite
        with adapters.active(loaded):  # tasks that score given answers compute with the module
            (score,) = retention.measure(
                loaded.model,
                loaded.tokenizer,
                [name],
                decoding=task_scores.retention_sampling(suite),
                limit=suite.retention_items,
                data_dir=suite.data_dir,
                seed=0,
                engine=engine,
            )
        return score

    def _scoring(self, suite: Suite) -> dict[str, Any]:
        """The settings that scores of a fixed model depend on."""
        return {
            "sampling": task_scores.eval_sampling(suite).__dict__,
            "dev_items": suite.dev_items,
            "test_items": suite.test_items,
            "eval_samples": suite.eval_samples,
            "retention_items": suite.retention_items,
            "retention_max_completion_length": suite.retention_max_completion_length,
            "history": suite.history,
            "max_prompt_length": suite.max_prompt_length,
            "overlong": suite.overlong,
            "teacher_model": self.models.larger_identity,
        }

    def _shared(self, shared: SharedDir, name: str, compute: Callable[[], Score]) -> Score:
        """A score from memory, from the shared folder, or computed and stored there."""
        key = (shared.path.name, name)
        if key not in self._measured:
            if not shared.has(name):
                shared.put(name, compute().to_rows())
            self._measured[key] = Score.from_rows(shared.get(name))
        return self._measured[key]
