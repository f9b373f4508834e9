"""Runs the cells of a suite; a cell that fails is recorded, and the others go on."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from opcd_bench.config import headline_rule, measures, rules
from opcd_bench.config.headline_rule import DevScore
from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Method
from opcd_bench.envs import leakage
from opcd_bench.envs.overlap import between_splits
from opcd_bench.envs.task import Task, assert_disjoint
from opcd_bench.errors import CellFailed, EngineDied, StoreError, UserError
from opcd_bench.evaluation import held_out, retention
from opcd_bench.evaluation.task_scores import contexts_of
from opcd_bench.hashing import canonical
from opcd_bench.progress import QuietReporter, Reporter
from opcd_bench.runner import context_record, grid, model_folders, prompt_record, registry
from opcd_bench.runner.cell import CellRun
from opcd_bench.runner.entrants import Entrants
from opcd_bench.runner.out_of_memory import explain_out_of_memory
from opcd_bench.runner.plugins import asked
from opcd_bench.runner.pool import Outcome, ended_by_turns, serve_parent, worker_pool
from opcd_bench.runner.resources import Resources
from opcd_bench.runner.time_shares import time_shares
from opcd_bench.runner.tracker import tracker
from opcd_bench.store import environment
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.run_reader import CONFIG, RunReader
from opcd_bench.store.suite_dir import SuiteDir
from opcd_bench.store.tidying import tidy


@dataclass(frozen=True)
class RunSummary:
    """What a run came to: cells (of a suite of chains, rounds) done and failed of all."""

    suite_dir: Path
    done: int
    failed: int
    total: int


@dataclass(frozen=True)
class Plan:
    """Methods and tasks of a suite, loaded and checked."""

    suite: Suite
    methods: Mapping[str, Method]
    tasks: Mapping[str, Task]


def plan(suite: Suite) -> Plan:
    """The suite's methods and tasks, checked as far as can be without loading a model.

    Raises UserError subclasses for unknown names (of retention tasks too), tasks whose splits
    overlap, and empty contexts.
    """
    planned = plugins(suite)
    for task in planned.tasks.values():
        asked(task, partial(contexts_of, task))
    return planned


def plugins(suite: Suite) -> Plan:
    """As `plan`, but for contexts, which need not be there yet."""
    methods, tasks = registry.plugins_of(suite)
    for task in tasks.values():
        asked(task, partial(assert_disjoint, task))
    retention.check_names(registry.foreign_retention(suite))
    for name in filter(measures.HELD_OUT.__contains__, suite.retention):
        held_out.texts(name, suite.data_dir)
    return Plan(suite, methods, tasks)


def run(suite: Suite, *, console: Reporter) -> RunSummary:
    """Run every cell that is not sealed yet; the same call goes on where an earlier one stopped.

    Bad input raises before anything is written. A failing cell leaves its reason in its run
    directory, and the others go on. KeyboardInterrupt leaves everything resumable.
    """
    planned = plan(suite)
    cells = grid.cells(suite, planned.methods, planned.tasks)
    root = Path(suite.output_dir) / suite.name
    suite_dir = SuiteDir(root)
    refuse_other_settings(cells, suite_dir)
    refuse_other_judgement(suite, suite_dir)
    retention.check_documents(
        registry.foreign_retention(suite), suite.data_dir, suite.retention_items
    )
    resources = Resources(suite, suite_dir, console)
    resources.check(list(planned.methods.values()))
    refuse_other_weights(resources, suite_dir)
    resources.references.check_retention(planned.tasks)
    prompts = prompt_record.checked(planned.tasks, resources.models, suite_dir, console)
    contexts = context_record.record(planned.tasks, resources.models)
    suite_dir.merge(
        {**suite.model_dump(mode="json"), **resources.models.weights(), **prompts, **contexts}
    )
    tidy(suite_dir)
    if rounding := rules.rounding_warning(suite):
        console.warn(rounding)
    for remark in resources.remarks():
        console.note(remark)
    _run_all(cells, planned, resources, console)
    if suite.headline_learning_rate == "dev":
        rates = grid.headline_rates(suite, dev_scores(cells, suite_dir))
        more = grid.headline_cells(suite, planned.methods, planned.tasks, rates)
        _run_all(more, planned, resources, console)
        cells += more
    if suite.entrants or suite.interpolate:
        finished = [cell for cell in cells if sealed(suite_dir.run(cell.name))]
        with explain_out_of_memory("scoring", suite):
            Entrants(resources, console).score(planned.tasks, finished)
    suite_dir.merge({"floors": {name: floors(task) for name, task in planned.tasks.items()}})
    told = {name: leakage.Told.of(task).to_json() for name, task in planned.tasks.items()}
    suite_dir.merge({"told": told})
    if shared := overlaps(planned.tasks):
        suite_dir.merge({"overlap": shared})
    done = sum(sealed(suite_dir.run(cell.name)) for cell in cells)
    runs = [suite_dir.run(cell.name) for cell in cells]
    if shares := time_shares(RunReader(path) for path in runs if path.is_dir()):
        console.note(f"time of all cells, {shares}")
    return RunSummary(
        suite_dir=root,
        done=done,
        failed=len(cells) - done,
        total=len(cells),
    )


def floors(task: Task) -> dict[str, float]:
    """What policies that read nothing score on test, and the most that any policy can."""
    found = {floor.name: floor.value for floor in task.floors("test")}
    return {**found, "best possible": task.best_possible("test").value}


def overlaps(tasks: Mapping[str, Task]) -> dict[str, dict[str, int]]:
    """Test questions that train asks too, of each task with questions that words tell apart."""
    found = {name: between_splits(task) for name, task in tasks.items()}
    return {name: asdict(one) for name, one in found.items() if one.of}


def refuse_other_weights(resources: Resources, suite_dir: SuiteDir) -> None:
    """Raise StoreError where the folder's runs began from other weights of the same name."""
    stored = suite_dir.read()
    names = {"weights": resources.suite.model, "teacher_weights": resources.suite.teacher_model}
    for key, now in resources.models.weights().items():
        before = stored.get(key)
        if before is not None and before != now:
            raise StoreError(
                f"{suite_dir.path}: its runs were made with other weights of {names[key]!r} "
                f"(SHA-256 {before[:10]}…, now {now[:10]}…), and cannot stand in one table with "
                "new ones. Give another suite name with --name, or another folder with "
                "--output-dir, or the model as it was"
            )


def refuse_other_settings(cells: Sequence[grid.Cell], suite_dir: SuiteDir) -> None:
    """Raise StoreError where finished cells of the folder could not stand in a table with these.

    Before any work: the comparison would refuse them after it.
    """
    configs = [json.loads(canonical(dict(cell.config))) for cell in cells]
    shared = {c["task"]["name"]: {k: c[k] for k in ("suite", "task")} for c in configs}
    own = {(c["task"]["name"], c["method"]["name"]): {"method": c["method"]} for c in configs}
    for path in filter(sealed, suite_dir.runs()):
        stored = RunReader(path).config
        task = stored["task"]["name"]
        now = shared.get(task, {}) | own.get((task, stored["method"]["name"]), {})
        if changed := environment.differences({key: stored[key] for key in now}, now):
            raise mixed(path, f"run of {task}", changed)


def refuse_other_judgement(suite: Suite, suite_dir: SuiteDir) -> None:
    """Raise StoreError where finished runs were to be judged by another rule, margin or claim.

    Chosen after the results are seen, any would be chosen by them.
    """
    stored = suite_dir.read()
    if not any(map(sealed, suite_dir.runs())):
        return
    claims = suite.model_dump(mode="json")["claims"]
    if stored.get("claims", claims) != claims:
        raise StoreError(
            f"{suite_dir.path}: its finished runs are judged by the claims that were stated before "
            "them, and now others are. Keep those, or give another suite name with --name"
        )
    fixed = isinstance(stored.get("headline_learning_rate"), float)
    swept = len(stored.get("learning_rate", [])) > 1 and not fixed
    before = {
        "headline_rule": headline_rule.rule_of(stored) if swept else suite.headline_rule,
        "equivalence_margin": stored.get("equivalence_margin", suite.equivalence_margin),
    }
    for name, value in before.items():
        now = getattr(suite, name)
        if now != value:
            raise StoreError(
                f"{suite_dir.path}: its finished runs are judged by {name} = {value}, which is "
                f"fixed before the runs; now {now} is asked for. Keep it (--set {name}={value}), "
                "or give another suite name with --name"
            )


def mixed(path: Path, finished: str, changed: Sequence[str]) -> StoreError:
    """The refusal of settings: ``changed`` are those that what is ``finished`` has otherwise."""
    return StoreError(
        f"{path}: a finished {finished} has other settings than are asked for now, and one table "
        "must not mix them (stored -> now):\n"
        + "\n".join(f"  {line}" for line in changed)
        + "\nGive another --name or --output-dir"
    )


def dev_scores(
    cells: Sequence[grid.Cell], suite_dir: SuiteDir
) -> dict[tuple[str, str, float], list[DevScore]]:
    """(task, method, rate) -> dev accuracy of each sealed run at the step that it chose."""
    found: dict[tuple[str, str, float], list[DevScore]] = {}
    for cell in cells:
        path = suite_dir.run(cell.name)
        if not sealed(path):
            continue
        reader = RunReader(path)
        chosen = reader.summary["chosen_step"]
        for row in reader.read("evals"):
            if row["split"] != "dev" or row["value"] is None:
                continue
            if row["primary"] and row["step"] == chosen:
                key = (cell.task, cell.method, cell.learning_rate)
                score = DevScore(row["value"], row["n"] - row["n_unscored"])
                found.setdefault(key, []).append(score)
    return found


def _run_all(
    cells: Sequence[grid.Cell], planned: Plan, resources: Resources, console: Reporter
) -> None:
    waiting = [cell for cell in cells if not sealed(resources.suite_dir.run(cell.name))]
    jobs = min(planned.suite.jobs, len(waiting))
    if jobs > 1:
        _run_in_processes(waiting, planned.suite, resources.suite_dir, jobs, console)
        return
    with console.phase(planned.suite.name, len(cells), "cells") as phase:
        phase.advance(len(cells) - len(waiting))
        for cell in waiting:
            tell(run_cell(cell, planned, resources, console), console)
            phase.advance(1)


def tell(outcome: Outcome, console: Reporter) -> None:
    """Say how a cell ended, and what was left to say."""
    for warning in outcome.warnings:
        console.warn(warning)
    if outcome.problem is not None:
        console.warn(f"{outcome.cell} failed: {outcome.problem}")


def run_cell(cell: grid.Cell, planned: Plan, resources: Resources, console: Reporter) -> Outcome:
    """One cell, sealed or marked as failed. A bug of ours is recorded with its traceback too."""
    folder = resources.suite_dir.path / "trackers" / cell.name
    described = environment.describe(
        model=model_folders.origin(resources.suite),
        device=str(resources.models.initial.device),
        computing=resources.computing(),
    )
    with RunDir.open(resources.suite_dir.run(cell.name), cell.config, described) as run_dir:
        if run_dir.sealed:
            return Outcome(cell.name, None)
        if run_dir.rounded_otherwise:
            console.warn(_resumed_otherwise(cell, run_dir.rounded_otherwise))
        live = tracker(planned.suite.report_to, folder, cell.name, cell.config)
        method, task = planned.methods[cell.method], planned.tasks[cell.task]
        try:
            with explain_out_of_memory("loading", planned.suite):
                started = CellRun(cell, method, task, resources, run_dir, console, live)
            started.run()
        except EngineDied as error:  # without an engine no other cell would go on either
            run_dir.fail(str(error), traceback.format_exc())
            raise
        except (CellFailed, UserError) as error:
            run_dir.fail(str(error), traceback.format_exc())
            return Outcome(cell.name, str(error))
        except KeyboardInterrupt:
            raise
        # The grid's edge: recorded whole and counted as failed; a plugin may raise SystemExit too.
        except BaseException as error:
            run_dir.fail(f"{type(error).__name__}: {error}", traceback.format_exc())
            return Outcome(cell.name, f"{type(error).__name__}: {error}")
        finally:
            live.close()
    return Outcome(cell.name, None)


def _resumed_otherwise(cell: grid.Cell, changed: Sequence[str]) -> str:
    """No refusal: the machine of yesterday may be gone, and the numbers are as good as the others.

    They are not, to the last digit, what they would be without the interruption.
    """
    return (
        f"{cell.name} goes on otherwise than it began ({'; '.join(changed)}): its numbers may "
        "differ in the last digits from those of a run without interruption. This is recorded in "
        "its events and in the report; to avoid it, resume with the former values"
    )


# --- several cells at a time ---------------------------------------------------------------

_WORKER: dict[str, tuple[Plan, Resources]] = {}


def _run_in_processes(
    cells: Sequence[grid.Cell], suite: Suite, suite_dir: SuiteDir, jobs: int, console: Reporter
) -> None:
    """Cells in ``jobs`` processes, which share the threads; progress is read off their rows."""
    total = sum(suite.for_task(cell.task).max_steps for cell in cells)
    with (
        console.phase(
            f"{suite.name}: {len(cells)} cells, {jobs} at a time", total, "steps"
        ) as phase,
        worker_pool(suite, jobs, _start_worker) as pool,
    ):
        paths = [suite_dir.run(cell.name) for cell in cells]
        shown = 0
        for ended in ended_by_turns(pool, jobs, _work, cells):
            for outcome in ended:
                tell(outcome, console)
            steps = sum(map(_steps_of, paths))
            phase.advance(steps - shown, cells=sum(map(sealed, paths)))
            shown = steps


def _steps_of(path: Path) -> int:
    """Optimiser steps that a run has stored so far."""
    file = path / "train.jsonl"
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def _start_worker(suite: Suite) -> None:
    serve_parent()
    suite_dir = SuiteDir(Path(suite.output_dir) / suite.name)
    _WORKER["here"] = (plan(suite), Resources(suite, suite_dir, QuietReporter()))


def _work(cell: grid.Cell) -> Outcome:
    planned, resources = _WORKER["here"]
    console = QuietReporter()
    outcome = run_cell(cell, planned, resources, console)
    return replace(outcome, warnings=tuple(console.warnings))


def sealed(path: Path) -> bool:
    """Whether a run is there, and done."""
    return (path / CONFIG).is_file() and RunReader(path).sealed
