"""Runs the cells of a suite, one after the other; a cell that fails is recorded and passed over."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from opcd_bench import environment, grid, registry
from opcd_bench.cell import CellRun
from opcd_bench.config import Suite
from opcd_bench.errors import CellFailed, UserError
from opcd_bench.evaluation import context_of
from opcd_bench.method import Method
from opcd_bench.progress import Reporter
from opcd_bench.report import tables
from opcd_bench.run_reader import CONFIG
from opcd_bench.store import RunDir, RunReader, SuiteDir
from opcd_bench.task import Task, assert_disjoint
from opcd_bench.tracker import tracker
from opcd_bench.workbench import Workbench


@dataclass(frozen=True)
class RunSummary:
    """What a run came to: cells done and failed of all, and the comparison as text."""

    suite_dir: Path
    done: int
    failed: int
    total: int
    table: str


def plan(suite: Suite) -> tuple[dict[str, Method], dict[str, Task], tuple[grid.Cell, ...]]:
    """Methods, tasks and cells of a suite, checked as far as can be without loading a model.

    Raises UserError subclasses for unknown names, tasks whose splits overlap, empty contexts and
    methods that the suite's settings cannot serve.
    """
    methods = {name: registry.method(name) for name in suite.methods}
    tasks = {
        name: registry.task(name, history=suite.history, data_dir=suite.data_dir)
        for name in suite.tasks
    }
    for task in tasks.values():
        context_of(task)
        assert_disjoint(task)
    return methods, tasks, grid.cells(suite, methods, tasks)


def run(suite: Suite, *, console: Reporter) -> RunSummary:
    """Run every cell that is not sealed yet; the same call goes on where an earlier one stopped.

    Bad input raises before anything is written. A failing cell leaves its reason in its run
    directory, and the others go on. KeyboardInterrupt leaves everything resumable.
    """
    methods, tasks, cells = plan(suite)
    root = Path(suite.output_dir) / suite.name
    suite_dir = SuiteDir(root)
    bench = Workbench(suite, suite_dir, console)
    bench.check(list(methods.values()))
    suite_dir.merge(suite.model_dump(mode="json"))
    described = environment.describe(device=str(bench.initial.device))
    with console.phase(suite.name, len(cells), "cells") as phase:
        for cell in cells:
            _run_cell(cell, methods, tasks, bench, described, console)
            phase.advance(1)
    done = sum(_sealed(suite_dir.run(cell.name)) for cell in cells)
    return RunSummary(
        suite_dir=root,
        done=done,
        failed=len(cells) - done,
        total=len(cells),
        table=tables.headline_text(root),
    )


def _run_cell(
    cell: grid.Cell,
    methods: Mapping[str, Method],
    tasks: Mapping[str, Task],
    bench: Workbench,
    described: Mapping[str, object],
    console: Reporter,
) -> None:
    """One cell, sealed or marked as failed. A bug of ours is recorded with its traceback too."""
    path = bench.suite_dir.run(cell.name)
    if _sealed(path):
        return
    with RunDir.open(path, cell.config, described) as run_dir:
        live = tracker(
            bench.suite.report_to,
            bench.suite_dir.path / "trackers" / cell.name,
            cell.name,
            cell.config,
        )
        try:
            CellRun(
                cell, methods[cell.method], tasks[cell.task], bench, run_dir, console, live
            ).run()
        except (CellFailed, UserError) as error:
            run_dir.fail(str(error), traceback.format_exc())
            console.warn(f"{cell.name} failed: {error}")
        except (
            Exception
        ) as error:  # the grid's edge: recorded whole, counted as failed, never hidden
            run_dir.fail(f"{type(error).__name__}: {error}", traceback.format_exc())
            console.warn(f"{cell.name} failed: {type(error).__name__}: {error}")
        finally:
            live.close()


def _sealed(path: Path) -> bool:
    return (path / CONFIG).is_file() and RunReader(path).sealed
