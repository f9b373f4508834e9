"""The scores of a cell: dev and retention on the way, test once at the end, each as rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from opcd_bench.config.measures import DRIFT
from opcd_bench.config.suite import Suite
from opcd_bench.envs.task import PROBE, Task
from opcd_bench.evaluation.scores import Score
from opcd_bench.evaluation.task_scores import further_sets
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.rollout.engine import Engine
from opcd_bench.runner.grid import Cell
from opcd_bench.runner.resources import Resources
from opcd_bench.store.run_dir import RunDir

Published = tuple[LoadedModel, Engine]
"""The student as a checkpoint publishes it, and its engine; in its place None: the base."""
WHOLE = "whole-"
"""Before the names of samples that are kept until the end, should their step be chosen."""


def _whole(task: str, step: int) -> str:
    return f"{WHOLE}{task}-step_{step:06d}"


class CellScores:
    """Scores the student of a cell as it stands, and stores what came of it."""

    def __init__(
        self,
        cell: Cell,
        task: Task,
        resources: Resources,
        run_dir: RunDir,
        student: LoadedModel,
        engine: Engine,
    ) -> None:
        self.cell, self.task, self.resources, self.run_dir = cell, task, resources, run_dir
        self.student, self.engine = student, engine
        self.suite: Suite = resources.suite.for_task(task.name)
        self.references = resources.references

    def on_the_way(self, step: int) -> None:
        """Dev, and retention if the suite says so, into evals.jsonl. Never reads test."""
        references = self.references
        if step == 0:
            with self._clock(step, "dev"):
                self._record(step, references.base(self.task, "dev", self.cell.seed))
            if self.suite.eval_retention:
                with self._clock(step, "retention"):
                    for measured in references.base_retention():
                        self._record(step, measured)
            return
        with self._published() as (loaded, engine):
            with self._clock(step, "dev"):
                dev = references.score(self.task, "dev", loaded, engine, self.cell.seed)
            self._record(step, dev)
            if self.suite.eval_retention:
                with self._clock(step, "retention"):
                    retained = references.retention(loaded, engine)
        if self.suite.eval_retention:
            for measured in self._with_drift(step, retained):
                self._record(step, measured)
                self.run_dir.samples(_whole(measured.task, step), measured.to_rows())

    def at_the_end(self, step: int) -> tuple[list[dict[str, str]], int]:
        """Test and retention of the chosen step; where the anchors are, and how many samples.

        The student must have that step's weights. At step 0 it is the base, which is scored once
        for all cells.
        """
        references, seed = self.references, self.cell.seed
        with self._published() if step else nullcontext() as student:
            with self._clock(step, "test", final=True):
                test = (
                    references.base(self.task, "test", seed)
                    if student is None
                    else references.score(self.task, "test", *student, seed, final=True)
                )
            self._record(step, test, final=True)
            self.run_dir.samples("test", test.samples)
            self._probes(step, student)
            with self._clock(step, "retention", final=True):
                retained = self._retention_at(step, student)
        for measured in self._with_drift(step, retained, final=True):
            self._record(step, measured, final=True)
            self.run_dir.samples(f"{measured.split}-{measured.task}", measured.samples)
        with self._clock(step, "references", final=True):
            anchors = references.of_cell(self.task, self.cell.seed, self.cell.config["method"])
        self.run_dir.drop_samples(WHOLE)
        return anchors, len(test.samples)

    def _probes(self, step: int, student: Published | None) -> None:
        """The task's further test sets, each stored as test is."""
        for probe in further_sets(self.task, self.suite):
            with self._clock(step, PROBE, final=True):
                found = (
                    self.references.base_probe(self.task, probe, self.cell.seed)
                    if student is None
                    else self.references.probe(self.task, probe, *student, self.cell.seed)
                )
            self._record(step, found, final=True)
            self.run_dir.samples(f"{PROBE}-{probe.name}", found.samples)

    def evaluated(self, step: int) -> bool:
        """Whether the step has been scored."""
        return any(row["step"] == step for row in self.run_dir.read("evals"))

    def dev_by_step(self) -> dict[int, float | None]:
        """Dev accuracy of each step that has been scored."""
        return {
            row["step"]: row["value"]
            for row in self.run_dir.read("evals")
            if row["split"] == "dev" and row["task"] == self.task.name and row["primary"]
        }

    @contextmanager
    def _published(self) -> Iterator[Published]:
        """What is scored: the student as a checkpoint publishes it, and its engine."""
        with self.resources.models.published(self.student) as (loaded, engine):
            yield loaded, self.engine if loaded is self.student else engine

    def _retention_at(self, step: int, student: Published | None) -> Sequence[Score]:
        """Retention of the chosen step: as it was measured on the way, if it was."""
        if student is None:
            return self.references.base_retention()
        names = [_whole(name, step) for name in self.suite.retention]
        if set(names) <= set(self.run_dir.sample_names()):
            return [Score.from_rows(self.run_dir.read(f"samples/{name}")) for name in names]
        return self.references.retention(*student)

    def _with_drift(
        self, step: int, measured: Sequence[Score], *, final: bool = False
    ) -> Sequence[Score]:
        """The measures with drift in its place, where the suite asks for it and it is not there.

        It is measured when the student is not published any more.
        """
        if DRIFT not in self.suite.retention or any(one.task == DRIFT for one in measured):
            return measured
        with self._clock(step, "retention", final=final):
            drift = self.references.drift(self.student)
        place = self.suite.retention.index(DRIFT)
        return [*measured[:place], drift, *measured[place:]]

    @contextmanager
    def _clock(self, step: int, phase: str, *, final: bool = False) -> Iterator[None]:
        """A row of timing.jsonl for what is no optimiser step."""
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        self.run_dir.timing({"step": step, "phase": phase, "seconds": seconds, "final": final})

    def _record(self, step: int, measured: Score, *, final: bool = False) -> None:
        for metric, value in measured.metrics.items():
            self.run_dir.eval(
                {
                    "step": step,
                    "task": measured.task,
                    "split": measured.split,
                    "metric": metric,
                    "value": value,
                    "primary": metric == measured.primary,
                    "n": measured.n,
                    "n_unscored": measured.n_unscored,
                    "protocol_hash": measured.protocol_hash,
                    "final": final,
                }
            )
        if not final:
            scores = [sample["score"] for sample in measured.samples]
            self.run_dir.samples(
                f"scores-{measured.task}-step_{step:06d}",
                [{"task": measured.task, "split": measured.split, "scores": scores}],
            )
