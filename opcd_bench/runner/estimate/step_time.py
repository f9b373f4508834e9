"""What an optimiser step takes: read off stored runs, or off a few real steps taken now."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Method
from opcd_bench.envs.task import Task
from opcd_bench.hashing import canonical
from opcd_bench.progress import Reporter
from opcd_bench.runner import grid
from opcd_bench.runner.adapted import UntrainedTeachers
from opcd_bench.runner.cell import CellRun
from opcd_bench.runner.estimate.workload import Pace
from opcd_bench.runner.out_of_memory import explain_out_of_memory
from opcd_bench.runner.resources import Resources
from opcd_bench.runner.tracker import tracker
from opcd_bench.store.run_dir import RunDir
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SuiteDir


def stored(suite: Suite, tasks: Iterable[str]) -> dict[str, dict[str, Pace]]:
    """Task -> method -> pace, from the suite's stored runs with the settings asked for."""
    folder = Path(suite.output_dir) / suite.name
    if not folder.is_dir():
        return {}
    readers = [RunReader(path) for path in SuiteDir(folder).runs()]
    found: dict[str, dict[str, Pace]] = {}
    for task in tasks:
        wanted = json.loads(canonical(suite.for_task(task).shared_identity()))
        by_method: dict[str, list[RunReader]] = {}
        for reader in readers:
            config = reader.config
            if config["task"]["name"] == task and config["suite"] == wanted:
                by_method.setdefault(config["method"]["name"], []).append(reader)
        for method, runs in by_method.items():
            if method in suite.methods and (pace := pace_of(runs)) is not None:
                found.setdefault(task, {})[method] = pace
    return found


def pace_of(runs: Iterable[RunReader], *, warm_up: int = 0) -> Pace | None:
    """The mean step of some runs, without each one's first ``warm_up``; None if no step is left."""
    train: list[Mapping[str, Any]] = []
    timing: list[Mapping[str, Any]] = []
    written: list[float] = []
    others: list[float] = []
    for run in runs:
        rows = run.read("train")
        times = [row for row in run.read("timing") if "phase" not in row]
        if len(rows) <= warm_up or len(times) < len(rows):
            continue
        before = rows[warm_up - 1]["tokens_written"] if warm_up else 0
        written.append((rows[-1]["tokens_written"] - before) / (len(rows) - warm_up))
        train += rows[warm_up:]
        timing += times[warm_up : len(rows)]
        if (whole := _sitting(run)) is not None:
            others.append(
                whole - sum(row["seconds_written"] + row["seconds_trained"] for row in times)
            )
    if not train:
        return None
    names = ("teacher", "student", "optimiser")
    return Pace(
        steps=len(train),
        trained=fmean(row["tokens"] for row in train),
        written=fmean(written),
        seconds_written=fmean(row["seconds_written"] for row in timing),
        seconds_trained=fmean(row["seconds_trained"] for row in timing),
        phases={
            name: fmean(row[f"seconds_{name}"] for row in timing)
            for name in names
            if all(f"seconds_{name}" in row for row in timing)  # older runs have no phases
        },
        other_seconds=fmean(others) if others else None,
        peak_bytes=max(row["peak_memory_bytes"] for row in timing),
    )


def _sitting(run: RunReader) -> float | None:
    """Seconds from start to seal of a run that was never interrupted."""
    events = run.read("events")
    kinds = [event["kind"] for event in events]
    if "finished" not in kinds or "resumed" in kinds:
        return None
    times = {event["kind"]: datetime.fromisoformat(event["time"]) for event in events}
    return (times["finished"] - times["started"]).total_seconds()


def _a_step_at_a_time(suite: Suite) -> Suite:
    """The suite with no responses sampled ahead of their step, whose time would not be measured."""
    own = [suite.for_task(task) for task in suite.tasks]
    least = min(one.batch_size * one.num_generations for one in own)
    return suite.model_copy(update={"rollout_batch_size": min(suite.rollout_batch_size, least)})


def rehearsed(
    suite: Suite,
    methods: Mapping[str, Method],
    tasks: Mapping[str, Task],
    steps: int,
    console: Reporter,
) -> dict[str, dict[str, Pace]]:
    """Task -> method -> pace of ``steps`` real optimiser steps after a first one; nothing stays.

    No teacher is adapted for it: one that is not takes as long.
    """
    found: dict[str, dict[str, Pace]] = {}
    with tempfile.TemporaryDirectory(prefix="opcd-bench-estimate-") as folder:
        suite_dir = SuiteDir(Path(folder) / suite.name)
        suite_dir.merge({})
        resources = Resources(
            _a_step_at_a_time(suite), suite_dir, console, adapted=UntrainedTeachers
        )
        resources.check(list(methods.values()))
        for cell in grid.cells(suite, methods, tasks):
            if cell.method in found.get(cell.task, {}):
                continue
            method, task = methods[cell.method], tasks[cell.task]
            live = tracker("none", Path(folder), cell.name, cell.config)
            title = f"{cell.task} {cell.method}: {steps} steps"
            with (
                console.phase(title, None, "steps"),
                RunDir.open(suite_dir.run(cell.name), cell.config, {}) as run_dir,
            ):
                with explain_out_of_memory("loading", suite):
                    run = CellRun(cell, method, task, resources, run_dir, console, live)
                run.rehearse(steps + 1)
                pace = pace_of([run_dir], warm_up=1)
            assert pace is not None
            found.setdefault(cell.task, {})[cell.method] = pace
    return found
