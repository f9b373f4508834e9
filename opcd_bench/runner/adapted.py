"""Teachers that a method adapts to a task: trained once a seed, stored, and shared by methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Method, Teacher
from opcd_bench.envs import readings
from opcd_bench.envs.task import Task, describe_task
from opcd_bench.envs.told_task import ToldTask
from opcd_bench.errors import StoreError
from opcd_bench.models import saving
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.progress import Reporter
from opcd_bench.runner import grid, registry
from opcd_bench.runner.models import SuiteModels
from opcd_bench.runner.tracker import NoTracker
from opcd_bench.runner.training import Shared, Training
from opcd_bench.store.checkpoints import MODEL
from opcd_bench.store.files import removal
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.run_reader import DONE, RunReader
from opcd_bench.store.suite_dir import ADAPTED, SuiteDir


class AdaptedTeachers:
    """The adapted teachers of a suite; each is a run of its own without evaluation.

    They lie in ``adapted/`` of the suite's folder; a kill loses no more than a cell's would. Runs
    of a seed learn from a teacher that was adapted with that seed, so that intervals over seeds
    are over teachers too: two that were adapted alike can teach 20 points apart.
    """

    def __init__(
        self, suite: Suite, suite_dir: SuiteDir, models: SuiteModels, console: Reporter
    ) -> None:
        self.suite, self.suite_dir, self.models, self.console = suite, suite_dir, models, console
        self._held: dict[str, LoadedModel] = {}
        self._hashes: dict[str, str] = {}

    def prepare(self, method: Method, task: Task, seed: int, shared: Shared) -> None:
        """Train, or go on training, every adapted teacher that a method's run of a seed needs.

        It takes the one module that students share: call it before a cell takes it.
        """
        for part in method.parts:
            if part.teacher.by is not None and not _sealed(self.path(part.teacher, task, seed)):
                self._train(part.teacher, task, seed, shared)

    def learners(self, teacher: Teacher, task: Task, seed: int) -> list[Path]:
        """The finished runs of the suite that learnt from an adapted teacher."""
        wanted = self.path(teacher, task, seed).name
        return [
            run
            for run, config in self.suite_dir.finished().items()
            if "adapted" in config and wanted in self._taught_by(config)
        ]

    def _taught_by(self, config: Mapping[str, Any]) -> Iterator[str]:
        """The folders of the adapted teachers that a run with these settings learnt from."""
        shared = {key: config[key] for key in ("suite", "task", "adapted", "seed")}
        method, rate = config["method"], config["adapted"]["learning_rate"]
        for part in (method, method.get("begins")):
            if part is not None and "by" in part["teacher"]:
                teacher = Teacher(**part["teacher"])
                own = {**shared, "told": teacher.by_reads, "model": self.models.identity}
                name, by = config["task"]["name"], str(teacher.by)
                yield grid.folder_name(name, by, rate, config["seed"], own)

    def of(self, teacher: Teacher, task: Task, seed: int) -> LoadedModel:
        """An adapted teacher, frozen; it has been prepared."""
        path = self.path(teacher, task, seed)
        name = path.name
        if name not in self._held:
            last = RunReader(path).last_checkpoint() if _sealed(path) else None
            if last is None:
                taught = self.learners(teacher, task, seed)
                away = f"type {removal(path)} and " if path.exists() else ""
                raise StoreError(
                    f"{path}: the adapted teacher's checkpoint is not there. Put it back from a "
                    f"copy; without one, {away}run the suite again: the teacher is trained anew"
                    + (f". {_as_it_was(taught)}" if taught else "")
                )
            self._held = {name: self.models.frozen(str(last.path / MODEL))}  # one at a time
        return self._held[name]

    def identity(self, teacher: Teacher, task: Task, seed: int) -> dict[str, Any]:
        """What replies and scores of an adapted teacher depend on; its weights are hashed once."""
        name = self.path(teacher, task, seed).name
        if name not in self._hashes:
            self._hashes[name] = saving.weights_hash(self.of(teacher, task, seed).model)
        return {**self.models.identity, "adapted": name, "weights": self._hashes[name]}

    def _train(self, teacher: Teacher, task: Task, seed: int, shared: Shared) -> None:
        path, config = self.path(teacher, task, seed), self._config(teacher, task, seed)
        if not path.exists() and (taught := self.learners(teacher, task, seed)):
            self.console.warn(f"{path}: this adapted teacher is trained anew. {_as_it_was(taught)}")
        with RunDir.open(path, config, {}, wait=True) as run_dir:
            if run_dir.sealed:  # another process was at it
                return
            rate = grid.adapting_rate(self.suite)
            own = ToldTask(task, seed) if teacher.by_reads == "context" else task
            training = Training(
                _by(teacher, self.suite), own, seed, rate, shared, run_dir, NoTracker()
            )
            self._steps(
                training, run_dir, f"{task.name}: teacher adapted by {teacher.by}, seed {seed}"
            )

    def _steps(self, training: Training, run_dir: RunDir, title: str) -> None:
        step, last = training.resume(), training.suite.max_steps
        with self.console.phase(title, last, "steps", done=step) as phase:
            while step < last:
                divergence = training.step(step)
                step += 1
                if step % training.suite.save_steps == 0 or step == last:
                    with run_dir.checkpoint(step) as folder:
                        training.save(step, folder)
                    run_dir.drop_checkpoints({step})
                collapsed = training.collapse_at(step, title, self.console)
                phase.advance(1, divergence=divergence, **collapsed)
        training.look_at_skipped(title, self.console)
        run_dir.seal({**training.counters}, keep={last})

    def _folder(self) -> Path:
        return self.suite_dir.path / ADAPTED

    def path(self, teacher: Teacher, task: Task, seed: int) -> Path:
        """The folder of the run that trains a teacher, there or not; whatever it is to read."""
        task = readings.behind(task)
        config, rate = self._config(teacher, task, seed), grid.adapting_rate(self.suite)
        name = grid.folder_name(task.name, str(teacher.by), rate, seed, config)
        return self._folder() / name

    def _config(self, teacher: Teacher, task: Task, seed: int) -> Mapping[str, Any]:
        """All that an adapted teacher depends on."""
        return {
            "suite": self.suite.for_task(task.name).shared_identity(),
            "task": describe_task(task),
            "told": teacher.by_reads,
            "model": self.models.identity,
            **grid.adaptation(self.suite, teacher),
            "seed": seed,
        }


class UntrainedTeachers(AdaptedTeachers):
    """In the place of adapted teachers where only time is taken: the weights before training."""

    def prepare(self, method: Method, task: Task, seed: int, shared: Shared) -> None:
        """Train none."""

    def of(self, teacher: Teacher, task: Task, seed: int) -> LoadedModel:
        """The student before training."""
        return self.models.initial


def _as_it_was(taught: Sequence[Path]) -> str:
    """What becomes of an adapted teacher that is made again though runs learnt from it."""
    return (
        f"It must come out as it was, for finished runs learnt from it ({len(taught)}, such as "
        f"{taught[0].name}), and two teachers of one name must not stand in one table. Where it "
        "comes out otherwise, as on another machine, no run learns from it: then a copy of what it "
        "was, or another suite name (--name), is needed"
    )


def _sealed(path: Path) -> bool:
    return (path / DONE).is_file()


def _by(teacher: Teacher, suite: Suite) -> Method:
    assert teacher.by is not None
    return registry.method(teacher.by, suite.method_files)
