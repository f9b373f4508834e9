"""What each context was worth: suites that differ in what teachers were told, side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from opcd_bench.errors import StoreError
from opcd_bench.report.analysis import statistics
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.tables.layout import Section, of_frame

COLUMNS = ["task", "context", "taught by", "told", "plain", "plain - told", "tokens"]
SHOWN = {
    "taught by": "method, learning rate", "told": "teacher with context",
    "plain": "student without context", "plain - told": "student - teacher",
}  # fmt: skip
"""Columns whose stored names are not those that users know."""
TEST = "test"


def told_contexts(suites: Sequence[StoredResults]) -> pd.DataFrame:
    """One row a (task, suite, method, rate) that every suite with the task has finished.

    ``context`` is the suite's name, ``taught by`` the method, its rate and how many seeds.
    ``told``: the teacher with the context, before training; ``plain``: the students that it taught,
    without any; ``plain - told``: paired by example; ``tokens``: what they wrote in training, mean
    of the seeds. Shares are Intervals. A retention task that all have gives ``<name> change``.
    First the row ``(none)`` of each task: the base, told nothing and taught nothing.

    Raises StoreError where there is nothing in common, or scores are under different protocols.
    """
    keys = _in_common(suites)
    measures = sorted(set.intersection(*(_measures(s, key) for s in suites for key in keys
                                         if key in s.finals)) - {TEST})  # fmt: skip
    rows: list[dict[str, Any]] = []
    _one_setting(suites, keys)
    for task in sorted({key[0] for key in keys}):
        mine = [s for s in suites if any(key in s.finals for key in keys if key[0] == task)]
        _one_protocol(task, mine)
        base = statistics.mean(mine[0].anchor("base", task, TEST))
        rows.append({"task": task, "context": "(none)", "plain": base})
        for results in mine:
            for key in (key for key in keys if key[0] == task):
                rows.append(_row(results, key, measures))
    columns = [*COLUMNS, *(f"{name} change" for name in measures)]
    return pd.DataFrame(rows, columns=columns)


def sections(table: pd.DataFrame) -> list[Section]:
    """The table for people, a section a task."""
    note = (
        "In %, on test. teacher with context: the in-context teacher before training. student "
        "without context: the students trained on it. (none): the student before training. "
        f"tokens: generated in training, mean over seeds. Intervals: {statistics.METHOD}."
    )
    return [
        of_frame(
            f"{task}: what each context was worth",
            rows.drop(columns="task").rename(columns=SHOWN),
            note,
        )
        for task, rows in table.groupby("task", sort=False)
    ]


def _in_common(suites: Sequence[StoredResults]) -> list[tuple[str, str, float]]:
    """(task, method, rate) that every suite with the task has done."""
    tasks = {task for results in suites for task, _, _ in results.finals}
    found = []
    for task in sorted(tasks):
        having = [
            {key for key in results.finals if key[0] == task}
            for results in suites
            if any(key[0] == task for key in results.finals)
        ]
        found += sorted(set.intersection(*having))
    if not found:
        raise StoreError(
            f"{_names(suites)}: no method ran on the same task at the same learning rate in all of "
            "them, so their contexts cannot be compared; run one method with each: opcd-bench run "
            "--context"
        )
    return found


def _measures(results: StoredResults, key: tuple[str, str, float]) -> set[str]:
    return set(results.finals[key])


def _row(
    results: StoredResults, key: tuple[str, str, float], measures: Sequence[str]
) -> dict[str, Any]:
    task, method, rate = key
    scores = results.finals[key]
    cells = results.cells
    cells = cells[
        (cells["task"] == task) & (cells["method"] == method) & (cells["learning_rate"] == rate)
    ]
    done = cells[cells["state"] == "done"]
    told = results.ceiling(task, method)
    row: dict[str, Any] = {
        "task": task,
        "context": results.root.name,
        "taught by": f"{method}, {rate:g}, {len(done)} seed{'s' * (len(done) > 1)}",
        "told": statistics.mean(told),
        "plain": statistics.mean(scores[TEST]),
        "plain - told": statistics.difference(scores[TEST], told),
        "tokens": f"{done['tokens_written'].mean():,.0f}",
    }
    for name in measures:
        before = results.anchor("base", task, name)
        row[f"{name} change"] = statistics.difference(scores[name], before)
    return row


def _one_setting(suites: Sequence[StoredResults], keys: Sequence[tuple[str, str, float]]) -> None:
    """StoreError unless the suites differ in what was told and in nothing else."""
    for key in ("weights", "larger_weights"):
        if len({str(results.suite.get(key)) for results in suites}) > 1:
            raise StoreError(
                f"{_names(suites)}: their runs started from different weights ({key}), so more "
                "than the context differs. Run them from the same model"
            )
    for task, method, _ in keys:
        found: dict[str, str] = {}
        for results in suites:
            cells = results.cells
            cells = cells[(cells["task"] == task) & (cells["method"] == method)]
            for settings, described in zip(cells["settings"], cells["description"], strict=True):
                rest = {k: v for k, v in settings.items() if k != "task.context_hash"}
                same = json.dumps([rest, described], sort_keys=True)
                found.setdefault(same, results.root.name)
        if len(found) > 1:
            raise StoreError(
                f"{task}, {method}: {' and '.join(found.values())} differ in other settings too, "
                "not only in the context. Run them with the same settings"
            )


def _names(suites: Sequence[StoredResults]) -> str:
    return ", ".join(results.root.name for results in suites)


def _one_protocol(task: str, suites: Sequence[StoredResults]) -> None:
    found: dict[str, str] = {}
    for results in suites:
        evals = results.evals
        final = evals[(evals["task"] == task) & (evals["split"] == TEST) & evals["final"]]
        for protocol in final["protocol_hash"].unique():
            found.setdefault(protocol, results.root.name)
    if len(found) > 1:
        names = " and ".join(f"{name} ({protocol})" for protocol, name in found.items())
        raise StoreError(
            f"{task}: scored under different protocols in {names}, which one table must not mix. "
            "Run them with the same decoding, items and task version"
        )
