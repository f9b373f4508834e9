"""What each context was worth: suites that differ in what teachers were told, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from opcd_bench.errors import StoreError
from opcd_bench.report.analysis import statistics
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.tables import rounds
from opcd_bench.report.tables.layout import Section, of_frame

COLUMNS = ["task", "context", "taught by", "told", "plain", "plain - told", "tokens"]
SHOWN = {
    "taught by": "method, learning rate", "told": "teacher with context",
    "plain": "student without context", "plain - told": "student - teacher",
}  # fmt: skip
"""Columns whose stored names are not those that users know."""
TEST = "test"
TOLD = ("task.context_hash", "suite.experience")
"""The settings in which suites may differ: what was told, and how it was made."""
Key = tuple[str, str, float]
"""(task, method, learning rate)."""


@dataclass(frozen=True)
class Taught:
    """What a context taught by one method at one rate: samples with their seeds.

    ``base`` and ``after``: "test" or a retention task -> samples before and after training;
    ``told``: of the in-context teacher on test. ``tokens``: written in training, mean of the runs.
    ``settings``: those of the runs and what their method is, as JSON; ``protocols``: under which
    test was scored.
    """

    base: Mapping[str, pd.DataFrame]
    told: pd.DataFrame
    after: Mapping[str, pd.DataFrame]
    runs: int
    tokens: float
    settings: frozenset[str]
    protocols: frozenset[str]


Side = tuple[str, Mapping[Key, Taught]]
"""A suite's name, and what its context taught."""


def told_contexts(suites: Sequence[StoredResults]) -> pd.DataFrame:
    """One row a (task, suite, method, rate) that every suite with the task has finished.

    ``context`` is the suite's name, ``taught by`` the method, its rate and how many seeds.
    ``told``: the teacher with the context, before training; ``plain``: the students that it taught,
    without any; ``plain - told``: paired by example; ``tokens``: what they wrote in training, mean
    of the seeds. Shares are Intervals. A retention task that all have gives ``<name> change``.
    First the row ``(none)`` of each task: the base, told nothing and taught nothing. Of a suite
    that makes its own contexts, a context a seed, what counts is the last round of every chain.

    Raises StoreError where there is nothing in common, or scores are under different protocols.
    """
    _one_model(suites)
    sides = [(one.root.name, _chained(one) if one.cells.empty else _plain(one)) for one in suites]
    keys = _in_common(sides)
    measures = sorted(set.intersection(*(set(taught[key].after) for _, taught in sides
                                         for key in keys if key in taught)) - {TEST})  # fmt: skip
    rows: list[dict[str, Any]] = []
    for key in keys:
        _alike(key, sides)
    for task in sorted({key[0] for key in keys}):
        mine = [(name, key, taught[key]) for name, taught in sides
                for key in keys if key[0] == task and key in taught]  # fmt: skip
        base = statistics.mean(mine[0][2].base[TEST])
        rows.append({"task": task, "context": "(none)", "plain": base})
        rows += [_row(name, key, taught, measures) for name, key, taught in mine]
    columns = [*COLUMNS, *(f"{name} change" for name in measures)]
    return pd.DataFrame(rows, columns=columns)


def sections(table: pd.DataFrame) -> list[Section]:
    """The table for people, a section a task."""
    how = statistics.method(table.to_numpy().ravel())
    note = (
        "In %, on test. teacher with context: the in-context teacher before training. student "
        "without context: the students trained on it. (none): the student before training. "
        f"tokens: generated in training, mean over seeds. Intervals: {how}."
    )
    return [
        of_frame(
            f"{task}: what each context was worth",
            rows.drop(columns="task").rename(columns=SHOWN),
            note,
        )
        for task, rows in table.groupby("task", sort=False)
    ]


def _plain(results: StoredResults) -> dict[Key, Taught]:
    """What a suite's finished cells were taught."""
    found = {}
    for key, after in results.finals.items():
        task, method, rate = key
        cells = results.cells
        cells = cells[
            (cells["task"] == task) & (cells["method"] == method) & (cells["learning_rate"] == rate)
        ]
        done = cells[cells["state"] == "done"]
        found[key] = Taught(
            base={name: results.anchor("base", task, name) for name in after},
            told=results.ceiling(task, method),
            after=after,
            runs=len(done),
            tokens=float(done["tokens_written"].mean()),
            settings=_settings(cells),
            protocols=_protocols(results, task),
        )
    return found


def _chained(results: StoredResults) -> dict[Key, Taught]:
    """What the last rounds of a suite's chains were taught, each by a context of its own."""
    found = {}
    for key, chains in rounds.finished(results.root).items():
        names = [TEST, *chains[0].retained()]
        found[key] = Taught(
            base={name: pd.concat([one.anchor("base", name) for one in chains]) for name in names},
            told=pd.concat([one.anchor("ceiling", TEST) for one in chains]),
            after={name: pd.concat([one.after(name) for one in chains]) for name in names},
            runs=len(chains),
            tokens=fmean(one.results.cells["tokens_written"].mean() for one in chains),
            settings=frozenset[str]().union(*(_settings(one.results.cells) for one in chains)),
            protocols=frozenset[str]().union(
                *(_protocols(one.results, one.task) for one in chains)
            ),
        )
    return found


def _settings(cells: pd.DataFrame) -> frozenset[str]:
    pairs = zip(cells["settings"], cells["description"], strict=True)
    return frozenset(
        json.dumps([{k: v for k, v in own.items() if k not in TOLD}, method], sort_keys=True)
        for own, method in pairs
    )


def _protocols(results: StoredResults, task: str) -> frozenset[str]:
    evals = results.evals
    final = evals[(evals["task"] == task) & (evals["split"] == TEST) & evals["final"]]
    return frozenset(final["protocol_hash"])


def _in_common(sides: Sequence[Side]) -> list[Key]:
    """(task, method, rate) that every suite with the task has done."""
    found: list[Key] = []
    for task in sorted({key[0] for _, taught in sides for key in taught}):
        having = [{key for key in taught if key[0] == task} for _, taught in sides]
        found += sorted(set.intersection(*filter(None, having)))
    if not found:
        raise StoreError(
            f"{_names(sides)}: no method ran on the same task at the same learning rate in all of "
            "them, so their contexts cannot be compared; run one method with each: opcd-bench run "
            "--context"
        )
    return found


def _row(name: str, key: Key, taught: Taught, measures: Sequence[str]) -> dict[str, Any]:
    task, method, rate = key
    return {
        "task": task,
        "context": name,
        "taught by": f"{method}, {rate:g}, {taught.runs} seed{'s' * (taught.runs > 1)}",
        "told": statistics.mean(taught.told),
        "plain": statistics.mean(taught.after[TEST]),
        "plain - told": statistics.difference(taught.after[TEST], taught.told),
        "tokens": f"{taught.tokens:,.0f}",
        **{
            f"{one} change": statistics.difference(taught.after[one], taught.base[one])
            for one in measures
        },
    }


def _one_model(suites: Sequence[StoredResults]) -> None:
    """StoreError where suites started from different weights."""
    for key in ("weights", "larger_weights"):
        if len({str(results.suite.get(key)) for results in suites}) > 1:
            names = ", ".join(results.root.name for results in suites)
            raise StoreError(
                f"{names}: their runs started from different weights ({key}), so more than the "
                "context differs. Run them from the same model"
            )


def _alike(key: Key, sides: Sequence[Side]) -> None:
    """StoreError unless the suites differ in what was told and in nothing else."""
    settings: dict[str, str] = {}
    protocols: dict[str, str] = {}
    for name, taught in sides:
        for one in sorted(taught[key].settings) if key in taught else ():
            settings.setdefault(one, name)
        for one in sorted(taught[key].protocols) if key in taught else ():
            protocols.setdefault(one, name)
    if len(protocols) > 1:
        names = " and ".join(f"{name} ({protocol})" for protocol, name in protocols.items())
        raise StoreError(
            f"{key[0]}: scored under different protocols in {names}, which one table must not mix. "
            "Run them with the same decoding, items and task version"
        )
    if len(settings) > 1:
        raise StoreError(
            f"{key[0]}, {key[1]}: {' and '.join(settings.values())} differ in other settings too, "
            "not only in the context. Run them with the same settings"
        )


def _names(sides: Sequence[Side]) -> str:
    return ", ".join(name for name, _ in sides)
