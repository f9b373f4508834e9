"""Whose hands do a suite's jobs: this process, worker processes beside it, SLURM, or Ray."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from opcd_bench.config.suite import Suite
from opcd_bench.errors import CellFailed, StoreError, UserError
from opcd_bench.progress import Reporter, worker_reporter, workers_say
from opcd_bench.runner import perform
from opcd_bench.runner.cluster.executor import Executor, drive
from opcd_bench.runner.cluster.jobs import Job, Outcome
from opcd_bench.runner.cluster.open import opened as open_executor
from opcd_bench.runner.cluster.work import Work
from opcd_bench.runner.grid import Cell
from opcd_bench.runner.plan import Plan, plan
from opcd_bench.runner.resources import Resources, release
from opcd_bench.store.run_reader import row_count, sealed
from opcd_bench.store.suite_dir import SuiteDir

SHARED = {
    "retention": "base retention",
    "anchors": "base and ceilings",
    "adapted": "adapted teachers",
    "responses": "responses in context",
}
"""What jobs that are no cell's do, for readers."""

WORK = Work(__name__)
"""What other processes do for a suite: `load` and `do`, below."""


class Hands(Protocol):
    """Who does a suite's jobs; it has been prepared for, and checked with its models.

    ``shared_seconds``: what its processes took for what cells share, by `SHARED`; what a cell's own
    process computed when it came to it is in the cell's times.
    """

    shared_seconds: defaultdict[str, float]

    def do_all(self, cells: Sequence[Cell]) -> None:
        """Run every cell that is not sealed; those that fail leave their reason."""
        ...

    def score_entrants(self, finished: Sequence[Cell]) -> int:
        """Score what the suite names and does not train; how many runs are not interpolated."""
        ...


@contextmanager
def opened(planned: Plan, suite_dir: SuiteDir, console: Reporter) -> Iterator[Hands]:
    """The hands that the suite asks for. Bad input raises before anything is written."""
    suite = planned.suite
    if suite.cluster != "local":
        with open_executor(suite, suite_dir.path, 0, WORK) as executor:
            spread = Spread(planned, suite_dir, executor, console)
            spread.prepare()
            yield spread
        return
    here = Here(planned, suite_dir, console)
    perform.prepare(planned, here.resources, console)
    yield here


class Here:
    """Here: one cell after the other, or in workers beside this process, several at a time."""

    def __init__(self, planned: Plan, suite_dir: SuiteDir, console: Reporter) -> None:
        self.planned, self.suite_dir, self.console = planned, suite_dir, console
        self._resources: Resources | None = None
        self.shared_seconds: defaultdict[str, float] = defaultdict(float)

    @property
    def resources(self) -> Resources:
        """What cells share, loaded in this process."""
        if self._resources is None:
            self._resources = Resources(self.planned.suite, self.suite_dir, self.console)
        return self._resources

    def do_all(self, cells: Sequence[Cell]) -> None:
        """One cell after the other, or ``jobs`` at a time, without models here."""
        suite, suite_dir = self.planned.suite, self.suite_dir
        waiting = [cell for cell in cells if not sealed(suite_dir.run(cell.name))]
        if (jobs := min(suite.jobs, len(waiting))) > 1:
            self._resources = None
            release()
            with open_executor(suite, suite_dir.path, jobs, WORK) as pool:
                spread = Spread(self.planned, suite_dir, pool, self.console)
                spread.do_all(cells)
                for work, seconds in spread.shared_seconds.items():
                    self.shared_seconds[work] += seconds
            return
        with self.console.phase(suite.name, len(cells), "cells") as phase:
            phase.advance(len(cells) - len(waiting))
            for cell in waiting:
                outcome = perform.run_cell(cell, self.planned, self.resources, self.console)
                perform.tell(outcome, self.console)
                phase.advance(1)

    def score_entrants(self, finished: Sequence[Cell]) -> int:
        """In this process."""
        return perform.score_entrants(self.planned, finished, self.resources, self.console)


class Spread:
    """Processes elsewhere, wave by wave: first what cells share, then the cells."""

    def __init__(
        self, planned: Plan, suite_dir: SuiteDir, executor: Executor, console: Reporter
    ) -> None:
        self.planned, self.suite_dir = planned, suite_dir
        self.executor, self.console = executor, console
        self.shared_seconds: defaultdict[str, float] = defaultdict(float)

    def do_all(self, cells: Sequence[Cell]) -> None:
        """The cells that are not sealed; progress is read off their rows."""
        suite = self.planned.suite
        waiting = [cell for cell in cells if not sealed(self.suite_dir.run(cell.name))]
        if not waiting:
            return
        for wave in perform.shared_waves(self.planned, waiting, self.executor.room or 1):
            self._share(wave)
        where = f"{self.executor.room} at a time" if suite.cluster == "local" else suite.cluster
        total = sum(suite.for_task(cell.task).max_steps for cell in waiting)
        progress = _Progress([self.suite_dir.run(cell.name) for cell in waiting])
        jobs = [Job("cell", cell.name, cell) for cell in waiting]
        shown, _ = progress.look()
        title = f"{suite.name}: {len(waiting)} cells, {where}"
        with self.console.phase(title, total, "steps", done=shown) as phase:
            for outcomes in self._driven(jobs):
                for outcome in outcomes:
                    perform.tell(outcome, self.console)
                steps, done = progress.look()
                phase.advance(steps - shown, cells=done, **workers_say())
                shown = steps

    def _share(self, jobs: Sequence[Job]) -> None:
        """Make what cells share; a part that fails is the cells' own to make, and to say why."""
        if not jobs:
            return
        title = f"{self.planned.suite.name}: what cells share"
        kinds = {job.name: SHARED[job.kind] for job in jobs}
        with self.console.phase(title, len(jobs), "parts") as phase:
            for outcomes in self._driven(jobs):
                for outcome in outcomes:
                    perform.tell(outcome, self.console)
                    self.shared_seconds[kinds[outcome.cell]] += outcome.seconds
                phase.advance(len(outcomes), **workers_say())

    def score_entrants(self, finished: Sequence[Cell]) -> int:
        """As one job, since they share what they load."""
        unscored = 0
        for outcome in self._ended([Job("entrants", "entrants", tuple(finished))]):
            perform.tell(replace(outcome, problem=None), self.console)
            if outcome.problem is not None:
                raise StoreError(f"entrants: {outcome.problem}")
            unscored += outcome.unscored
        return unscored

    def prepare(self) -> None:
        """Check and record, where the models can be loaded; what is refused is raised here."""
        with self.console.phase(f"{self.planned.suite.name}: checking", None, "jobs") as phase:
            for outcome in self._ended([Job("prepare", "prepare")]):
                for note in outcome.notes:
                    self.console.note(note)
                perform.tell(replace(outcome, problem=None), self.console)
                if outcome.problem is not None:
                    raise UserError(outcome.problem)
                phase.advance(1)

    def _ended(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        for outcomes in self._driven(jobs):
            yield from outcomes

    def _driven(self, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        suite, options = self.planned.suite, self.planned.suite.cluster_options
        seconds = 2.0 if suite.cluster == "local" else options.poll_seconds
        return drive(
            self.executor, jobs, retries=options.retries, console=self.console, seconds=seconds
        )


class _Progress:
    """Steps and seals of runs, looked at again and again: no byte of a file is read twice."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._read = dict.fromkeys(paths, (0, 0))
        self._open = set(paths)

    def look(self) -> tuple[int, int]:
        """Optimiser steps that all runs have stored by now, and how many runs are sealed."""
        for path in sorted(self._open):
            if sealed(path):
                self._read[path] = 0, row_count(path, "train")
                self._open.discard(path)
            else:
                self._read[path] = _more(path / "train.jsonl", *self._read[path])
        return sum(steps for _, steps in self._read.values()), len(self._read) - len(self._open)


def _more(file: Path, read: int, steps: int) -> tuple[int, int]:
    """Bytes of a file that were read, and its lines; of a run that went back, all anew."""
    try:
        size = file.stat().st_size
    except FileNotFoundError:
        return 0, 0
    if size == read:
        return read, steps
    if size < read:
        read = steps = 0
    with file.open("rb") as rows:
        rows.seek(read)
        new = rows.read()
    return read + len(new), steps + new.count(b"\n")


# --- in the processes that do them ---------------------------------------------------------

Held = tuple[Plan, Resources]


def load(suite: Suite) -> Held:
    """What a process needs to do jobs of a suite."""
    planned = plan(suite)
    suite_dir = SuiteDir(Path(suite.output_dir) / suite.name)
    return planned, Resources(suite, suite_dir, worker_reporter())


def do(job: Job, held: Held) -> Outcome:
    """A job of a suite, and what was to be said meanwhile."""
    console, began = worker_reporter(), time.monotonic()
    try:
        outcome = perform.perform(job, *held, console)
    except (CellFailed, UserError) as error:
        if job.kind == "cell":  # its folder or an engine: no other cell would go on either
            raise
        outcome = Outcome(job.name, str(error))
    said, notes = tuple(console.warnings), tuple(console.notes)
    return replace(outcome, warnings=said, notes=notes, seconds=time.monotonic() - began)
