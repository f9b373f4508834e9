"""The prefix probe in worker processes: teachers' own responses first, then every student's."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Teacher
from opcd_bench.errors import CellFailed, UserError
from opcd_bench.progress import Reporter, worker_reporter, workers_say
from opcd_bench.runner import perform, probing, registry
from opcd_bench.runner.cluster.executor import drive
from opcd_bench.runner.cluster.jobs import Job, Outcome
from opcd_bench.runner.cluster.local import LocalPool
from opcd_bench.runner.cluster.work import Work
from opcd_bench.runner.prefix_probe import Asked, PrefixProbe
from opcd_bench.runner.probing import Place
from opcd_bench.runner.resources import Resources
from opcd_bench.store.suite_dir import SuiteDir

WORK = Work(__name__)
"""What the workers do: `load` and `do`, below."""


@dataclass(frozen=True)
class Piece:
    """What one worker does at a time: a ``teacher`` on its own responses, or else a student.

    ``place``: where the student is stored; None for the base.
    """

    asked: Asked
    teachers: Mapping[str, Teacher]
    task: str
    seed: int
    teacher: str | None = None
    place: Place | None = None


def probe(
    suite: Suite,
    asked: Asked,
    teachers: Mapping[str, Teacher],
    places: Sequence[Place],
    bases: Sequence[tuple[str, int]],
    console: Reporter,
) -> None:
    """Probe students and bases, (task, seed), in ``suite.jobs`` processes of this machine.

    What a teacher makes of its own responses serves all students of a task and seed, so it comes
    first. UserError where a piece fails; what is stored stays.
    """
    about = {place: probing.task_and_seed(place) for place in places}
    pairs = list(dict.fromkeys([*bases, *about.values()]))
    own = [Piece(asked, teachers, *pair, teacher=name) for pair in pairs for name in teachers]
    students = [Piece(asked, teachers, *pair) for pair in bases]
    students += [Piece(asked, teachers, *pair, place=place) for place, pair in about.items()]
    retries = suite.cluster_options.retries
    with LocalPool(suite, min(suite.jobs, len(own) + len(students)), WORK) as pool:
        for title, pieces in (("teachers", own), ("students", students)):
            jobs = [Job("probe", f"{title}-{number}", one) for number, one in enumerate(pieces)]
            title = f"{suite.name}: {title} go on, {pool.room} at a time"
            with console.phase(title, len(jobs), "parts") as phase:
                for outcomes in drive(pool, jobs, retries=retries, console=console):
                    for outcome in outcomes:
                        for note in outcome.notes:
                            console.note(note)
                        perform.tell(replace(outcome, problem=None), console)
                        if outcome.problem is not None:
                            raise UserError(outcome.problem)
                    phase.advance(len(outcomes), **workers_say())


# --- in the processes that do them ---------------------------------------------------------


def load(suite: Suite) -> Resources:
    """What a process needs for pieces of a suite's probe."""
    suite_dir = SuiteDir(Path(suite.output_dir) / suite.name)
    resources = Resources(suite, suite_dir, worker_reporter())
    resources.models.engines.start()
    return resources


def do(job: Job, resources: Resources) -> Outcome:
    """A piece, and what was to be said meanwhile."""
    console, began = worker_reporter(), time.monotonic()
    piece: Piece = job.what
    task = registry.task_of(resources.suite, piece.task)
    made = PrefixProbe(resources, piece.asked, piece.teachers, console)
    outcome = Outcome(job.name, None)
    try:
        if piece.teacher is not None:
            made.own(task, piece.seed, piece.teacher)
        elif piece.place is None:
            made.probe(probing.base(resources, piece.task, piece.seed), task)
        else:
            made.probe(probing.student(resources, piece.place), task)
    except (CellFailed, UserError) as error:
        outcome = Outcome(job.name, str(error))
    said, notes = tuple(console.warnings), tuple(console.notes)
    return replace(outcome, warnings=said, notes=notes, seconds=time.monotonic() - began)
