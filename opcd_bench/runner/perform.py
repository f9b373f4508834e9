"""One job of a suite, done in this process with what its jobs share."""

from __future__ import annotations

import json
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence

from opcd_bench import preemption
from opcd_bench.distillation.method import Method
from opcd_bench.distillation.replies import group_of, told_by_teacher
from opcd_bench.distillation.sampling import schedule
from opcd_bench.envs.task import Task
from opcd_bench.errors import (
    CellFailed,
    Diverged,
    EngineDied,
    FolderBusy,
    LeaseLost,
    StoreError,
    UserError,
)
from opcd_bench.hashing import canonical
from opcd_bench.progress import Reporter
from opcd_bench.runner import (
    context_record,
    entrants,
    grid,
    model_folders,
    preflight,
    prompt_record,
    refusals,
    stored_responses,
)
from opcd_bench.runner.cell import CellRun
from opcd_bench.runner.cluster.jobs import Job, Outcome
from opcd_bench.runner.out_of_memory import explain_out_of_memory
from opcd_bench.runner.plan import Plan
from opcd_bench.runner.resources import Resources
from opcd_bench.runner.tracker import tracker
from opcd_bench.store import environment
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.run_reader import sealed
from opcd_bench.store.tidying import tidy


def perform(job: Job, planned: Plan, resources: Resources, console: Reporter) -> Outcome:
    """Do a job; UserError for what no job of the suite would get past, an Outcome for the rest."""
    if job.kind == "cell":
        return run_cell(job.what, planned, resources, console)
    if job.kind == "prepare":
        prepare(planned, resources, console)
    elif job.kind == "retention":
        resources.references.base_retention()
    elif job.kind == "anchors":
        task, seed, names = job.what
        anchors(planned.of(names), planned.tasks[task], seed, resources)
    elif job.kind == "adapted":
        task, seed, names = job.what
        adapted(planned.of(names), planned.tasks[task], seed, resources)
    elif job.kind == "responses":
        task, seed, names, share, shares = job.what
        responses(planned.of(names), planned.tasks[task], seed, resources, share, shares, console)
    elif job.kind == "entrants":
        left = score_entrants(planned, job.what, resources, console)
        return Outcome(job.name, None, unscored=left)
    return Outcome(job.name, None)


def prepare(planned: Plan, resources: Resources, console: Reporter) -> None:
    """Check what only a loaded model can tell, and record what the runs are made of.

    Bad input raises before anything is written.
    """
    suite, suite_dir = planned.suite, resources.suite_dir
    entrants.require(suite)
    resources.check(list(planned.methods.values()))
    asked, student = list(planned.tasks.values()), resources.models.initial
    stored_responses.refuse_unfit(suite, planned.methods.values(), asked, student)
    refusals.refuse_other_weights(resources, suite_dir)
    resources.references.check_retention(planned.tasks)
    cells = grid.cells(suite, planned.methods, planned.tasks)
    for name, task in planned.tasks.items():
        runs = [suite_dir.run(cell.name) for cell in cells if cell.task == name]
        if waiting := [path for path in runs if not sealed(path)]:
            refusals.refuse_other_protocols(resources, task, waiting)
    prompts = prompt_record.checked(planned.tasks, resources.models, suite_dir, console)
    contexts = context_record.record(planned.tasks, resources.models)
    suite_dir.merge({**suite.stored(), **resources.models.weights(), **prompts, **contexts})
    tidy(suite_dir)
    for remark in (*refusals.damaged(suite_dir), *preflight.remarks(suite, planned.tasks)):
        console.warn(remark)
    for remark in resources.remarks():
        console.note(remark)


def shared_waves(
    planned: Plan, cells: Sequence[grid.Cell], workers: int = 1
) -> tuple[list[Job], list[Job], list[Job]]:
    """What these cells share, as jobs: all of a wave can run at once, then those of the next.

    Adapted teachers come before the responses that they may write.
    Responses of a task and seed are divided among ``workers`` that would have nothing to do else.
    """
    suite = planned.suite
    every, decoded = _Needed(), _Needed()
    for cell in cells:
        every[cell.task, cell.seed][cell.method] = None
        decoded[cell.task, 0 if suite.eval_temperature == 0 else cell.seed][cell.method] = None
    first = [Job("retention", "retention")] * bool(suite.retention)
    first += [
        Job("anchors", f"anchors--{t}--s{s}", (t, s, tuple(names)))
        for (t, s), names in decoded.items()
    ]
    second = [
        Job("adapted", f"adapted--{t}--s{s}", (t, s, some))
        for (t, s), names in every.items()
        if (some := tuple(name for name in names if _is_adapted(planned.methods[name])))
    ]
    told = {
        pair: some
        for pair, names in every.items()
        if (some := tuple(name for name in names if _is_told(planned.methods[name])))
    }
    shares = max(1, workers // len(told)) if told else 1
    third = [
        Job("responses", f"responses--{t}--s{s}--{share}", (t, s, names, share, shares))
        for (t, s), names in told.items()
        for share in range(shares)
    ]
    return first, second, third


TOLD = ("teacher", "mixture")
"""The kinds of writers of whom the in-context teacher is one."""


class _Needed(defaultdict[tuple[str, int], dict[str, None]]):
    """(task, seed) -> the methods of its cells, each once and in their order."""

    def __init__(self) -> None:
        super().__init__(dict)


def anchors(methods: Sequence[Method], task: Task, seed: int, resources: Resources) -> None:
    """Base and the methods' ceilings of a task, but for those of adapted teachers."""
    resources.references.base(task, "dev", seed)
    for method in methods:
        if not _is_adapted(method):
            resources.references.anchors(task, seed, method.describe())


def adapted(methods: Sequence[Method], task: Task, seed: int, resources: Resources) -> None:
    """The methods' adapted teachers of a task and training seed, and their ceilings."""
    for method in methods:
        resources.prepare(method, task, seed)
        refusals.refuse_other_teachers(resources, method, task, seed)
        resources.references.anchors(task, seed, method.describe())


def _is_adapted(method: Method) -> bool:
    """Whether a part of a method learns from an adapted teacher."""
    return any(part.teacher.by is not None for part in method.parts)


def _is_told(method: Method) -> bool:
    """Whether a part of a method trains on the in-context teacher's responses."""
    return any(part.writer.kind in TOLD for part in method.parts)


def responses(
    methods: Sequence[Method],
    task: Task,
    seed: int,
    resources: Resources,
    share: int,
    shares: int,
    console: Reporter,
) -> None:
    """The in-context teacher's responses to every step of methods that train on them.

    Of several shares one: every so many of the groups that are sampled together.
    """
    suite = resources.suite.for_task(task.name)
    mine = [
        (method, part, step)
        for method in methods
        for part, steps in method.spans(suite.max_steps)
        if part.writer.kind in TOLD
        for step in steps
        if group_of(step, suite) % shares == share
    ]
    for method in {one.name: one for one, _, _ in mine}.values():
        resources.prepare(method, task, seed)
    title = f"{task.name}: responses in context, seed {seed}"
    with console.phase(title, len(mine), "steps") as phase:
        for _, part, step in mine:
            slots = schedule(task, suite, seed, step)
            if any(told_by_teacher(part.writer, slots, task, seed)):
                resources.told_replies.write(
                    task, seed, step, teacher=part.teacher, reads=part.writer.reads
                )
            phase.advance(1)


def score_entrants(
    planned: Plan, finished: Sequence[grid.Cell], resources: Resources, console: Reporter
) -> int:
    """Score what the suite names and does not train, and what lies between ``finished`` cells.

    How many of these could not be interpolated.
    """
    with explain_out_of_memory("scoring", planned.suite):
        return entrants.Entrants(resources, console).score(planned.tasks, finished)


def tell(outcome: Outcome, console: Reporter) -> None:
    """Say how a cell ended, and what was left to say."""
    for warning in outcome.warnings:
        console.warn(warning)
    if outcome.problem is not None:
        console.warn(f"{outcome.cell} failed: {outcome.problem}")


def run_cell(
    cell: grid.Cell,
    planned: Plan,
    resources: Resources,
    console: Reporter,
    refuse: Callable[[], None] = lambda: None,
) -> Outcome:
    """One cell, sealed or marked as failed. A bug of ours is recorded with its traceback too.

    Nothing is begun where ``planned`` would train another cell than was asked for. ``refuse``
    raises where what was finished meanwhile, outside the cell's own suite, may not stand beside it.
    """

    def refuse_other_settings() -> None:
        """Asked again before the seal: another run of the suite may have sealed cells by then."""
        refusals.refuse_other_settings([cell], resources.suite_dir)
        refuse()

    method, task = planned.methods[cell.method], planned.tasks[cell.task]
    now = grid.cell(planned.suite, method, task, cell.learning_rate, cell.seed)
    if now.hash10 != cell.hash10:
        before, after = (json.loads(canonical(dict(one.config))) for one in (cell, now))
        return Outcome(cell.name, changed_since(environment.differences(before, after)))
    folder = resources.suite_dir.path / "trackers" / cell.name
    described = environment.describe(
        model=model_folders.origin(resources.suite),
        device=str(resources.models.initial.device),
        computing=resources.computing(),
    )
    try:
        opened = RunDir.open(resources.suite_dir.run(cell.name), cell.config, described)
    except (FolderBusy, LeaseLost):
        raise
    except StoreError as error:
        if isinstance(error.__cause__, OSError):  # a full disk is every cell's
            raise
        return Outcome(cell.name, str(error))
    with opened as run_dir:
        if run_dir.sealed:
            return Outcome(cell.name, None)
        if run_dir.rounded_otherwise:
            console.warn(_resumed_otherwise(cell, run_dir.rounded_otherwise))
        live = tracker(planned.suite.report_to, folder, cell.name, cell.config)
        try:
            refuse_other_settings()
            refusals.refuse_other_protocols(resources, task, [run_dir.path])
            with explain_out_of_memory("loading", planned.suite):
                started = CellRun(cell, method, task, resources, run_dir, console, live)
            started.before_seal = refuse_other_settings
            started.run()
        except EngineDied as error:  # without an engine no other cell would go on either
            run_dir.fail(str(error), traceback.format_exc())
            raise
        except LeaseLost:  # the folder is another process's now
            raise
        except (CellFailed, UserError) as error:
            final = isinstance(error, Diverged)
            run_dir.fail(str(error), traceback.format_exc(), final=final)
            return Outcome(cell.name, str(error))
        except KeyboardInterrupt:
            raise
        # The grid's edge: recorded whole and counted as failed; a plugin may raise SystemExit too.
        except BaseException as error:
            if preemption.leaving():
                raise
            run_dir.fail(f"{type(error).__name__}: {error}", traceback.format_exc())
            return Outcome(cell.name, f"{type(error).__name__}: {error}")
        finally:
            live.close()
    return Outcome(cell.name, None)


def changed_since(changed: Sequence[str] = ()) -> str:
    """What was edited between the command and its job, which loads methods and tasks anew."""
    which = f" ({'; '.join(changed)})" if changed else ""
    return (
        f"a method, task or context was changed after the command was typed{which}, so nothing "
        "was trained. Type the command again, or put the files back as they were"
    )


def _resumed_otherwise(cell: grid.Cell, changed: Sequence[str]) -> str:
    """No refusal: the machine of yesterday may be gone, and the numbers are as good as the others.

    They are not, to the last digit, what they would be without the interruption.
    """
    return (
        f"{cell.name} goes on otherwise than it began ({'; '.join(changed)}): its numbers may "
        "differ in the last digits from those of a run without interruption. This is recorded in "
        "its events and in the report; to avoid it, resume with the former values"
    )
