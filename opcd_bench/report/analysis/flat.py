"""Stored results as frames of plain numbers, for those who go on with pandas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from opcd_bench.report.analysis import headline, learning
from opcd_bench.report.analysis.headline import TEST
from opcd_bench.report.analysis.load import CELL, SAMPLE, StoredResults
from opcd_bench.report.analysis.reached import Reached
from opcd_bench.report.analysis.statistics import Interval

RENAMED: Mapping[str, str] = {
    "plain": "accuracy",
    "mde": "minimum_detectable_effect",
    "tokens written": "tokens_generated",
    "steps": "chosen_steps",
    "larger": "larger_teacher",
    "plain before": "before",
    "told": "with_context",
    "plain after": "after",
}
HEADLINE = [
    "task", "method", "learning_rate", "headline", "seeds", "state", "n", "accuracy", "floor",
    "base", "ceiling", "gap_closed", "parsed", "minimum_detectable_effect", "tokens_generated",
    "tokens_scored", "seconds", "chosen_steps", "runs",
]  # fmt: skip
SAMPLES = [*CELL, *SAMPLE]
CURVES = [*CELL, "headline", "step", "tokens", "dev_accuracy"]


def of_headline(results: StoredResults) -> pd.DataFrame:
    """`headline.headline` with a number a column: for an interval ``x``, ``x_low``, ``x_high``.

    Shares in [0, 1]. ``n``: the test examples. ``chosen_steps`` and ``runs`` are tuples. Each
    retention task has ``<task>_before``, ``_after``, ``_change`` and ``_minimum_detectable_effect``
    behind the rest, each measure in nats ``<name>_in_nats_before``, ``_after_training``,
    ``_change``. Before them `learning.columns`: ``area_under_curve``, ``steps_to_50`` and so on,
    infinite where it was not reached.
    """
    table = headline.headline(results)
    table.insert(0, "n", [_examples(value) for value in table["plain"]])
    names = [str(name) for name in table.columns]
    kept = [name.removesuffix(" after") for name in names if name.endswith(" after")]
    renamed = {**RENAMED, **{f"mde {name}": f"{name}_minimum_detectable_effect" for name in kept}}
    table = table.rename(columns={name: renamed.get(name, _snake(name)) for name in names})
    learnt = [_snake(name) for name in learning.COLUMNS]
    for name in ("chosen_steps", "runs"):
        table[name] = [tuple(v) if isinstance(v, list) else () for v in table[name]]
    for name in {"larger_teacher", "control"} & set(table.columns):
        table[name] = [value is True for value in table[name]]
    intervals = ["accuracy", "base", "ceiling", "gap_closed", *learnt]
    intervals += [f"{name}_{when}" for name in kept for when in headline.KEPT]
    intervals += [
        _snake(f"{name} {when}") for name in headline.in_nats(results) for when in headline.IN_NATS
    ]
    intervals += [_snake(one) for one in headline.LOOPS.values() if _snake(one) in table.columns]
    leaks = [_snake(one) for leak in headline.LEAKS for one in (leak, f"{leak} of base")]
    intervals += [name for name in leaks if name in table.columns]
    return spread(table[[*HEADLINE, *(n for n in table.columns if n not in HEADLINE)]], intervals)


def of_entrants(table: pd.DataFrame) -> pd.DataFrame:
    """`entrants.frame` with a number a column, in the words of users."""
    intervals = [n for n in table.columns if len(table) and isinstance(table[n].iloc[0], Interval)]
    renamed = {name: _snake("accuracy" if name == "plain" else str(name)) for name in table.columns}
    return spread(table.rename(columns=renamed), [renamed[name] for name in intervals])


def of_samples(results: StoredResults) -> pd.DataFrame:
    """Every final score: one row a sample; base and ceiling as methods of these names.

    Columns `SAMPLES`. ``measured``: the task itself, or a retention task; ``split``: "test" or
    "retention"; ``score`` in [0, 1], NaN where unscored; ``score_without_loops`` is 0 where the
    response loops; ``outcome``: correct, wrong, unparsable, truncated, failed or skipped. A
    reference has no learning rate and no seed; on retention it has no task, since all tasks share
    it.
    """
    references = results.anchors.rename(columns={"reading": "method"})
    references = references.assign(
        task=references["measured"].where(references["split"] == TEST, None),
        learning_rate=math.nan,
        seed=pd.NA,
    )
    parts = [part[SAMPLES] for part in (results.samples, references) if not part.empty]
    both = pd.concat(parts, ignore_index=True) if parts else results.samples[SAMPLES]
    return both.astype({"seed": "Int64", "learning_rate": float, "sample": int})


def of_curves(results: StoredResults) -> pd.DataFrame:
    """One row a (run, evaluated step), runs that are not done too; step 0 is the base.

    Columns `CURVES` and one a retention task that was scored along the way: mean scores in [0, 1].
    ``tokens``: response tokens trained on until then. ``headline``: whether the method is compared
    at this rate. ``dev_accuracy`` chose step and rate, so it flatters; test was read once.
    """
    evals = results.evals
    evals = evals[evals["primary"].astype(bool) & ~evals["final"].astype(bool)]
    dev = evals[(evals["split"] == "dev") & (evals["measured"] == evals["task"])]
    keys = [*CELL, "run", "step"]
    found = dev.rename(columns={"value": "dev_accuracy"})[[*keys, "dev_accuracy"]]
    for name, rows in evals[evals["split"] == "retention"].groupby("measured", sort=True):
        values = rows.rename(columns={"value": name})[[*keys, name]]
        found = found.merge(values, on=keys, how="outer")
    trained = results.trains.reindex(columns=["run", "step", "student_tokens_trained"])
    trained = trained.rename(columns={"student_tokens_trained": "tokens"})
    found = found.merge(trained, on=["run", "step"], how="left")
    found["tokens"] = found["tokens"].astype(float).where(found["step"] > 0, 0.0)
    stands = {
        (point.task, point.method, point.learning_rate)
        for point in headline.points(results).itertuples()
    }
    cells = zip(found["task"], found["method"], found["learning_rate"], strict=True)
    found["headline"] = np.array([cell in stands for cell in cells], dtype=bool)
    others = [name for name in found.columns if name not in (*CURVES, "run")]
    return found.sort_values([*CELL, "step"], ignore_index=True)[[*CURVES, *others]]


def of_rounds(table: pd.DataFrame) -> pd.DataFrame:
    """The rounds of chains (`tables.rounds.read`) with a number a column, as `of_headline`.

    ``runs``: the finished runs; ``chosen_steps``: by seed.
    """
    table = table.rename(columns={n: RENAMED.get(n, _snake(str(n))) for n in table.columns})
    table["runs"] = [getattr(runs, "names", ()) for runs in table["runs"]]
    table["chosen_steps"] = [tuple(v) if isinstance(v, list) else () for v in table["chosen_steps"]]
    numbers = ["deployed", "before", "with_context", "after", "gain", "since_start"]
    others = [n for n in table.columns if n.endswith(("_change", "_since_start", "_after"))]
    others += [_snake(one) for leak in headline.LEAKS for one in (leak, f"{leak} before")]
    return spread(table, [*numbers, *others])


def spread(table: pd.DataFrame, intervals: Sequence[str]) -> pd.DataFrame:
    """The table with ``x``, ``x_low`` and ``x_high`` in place of each column ``x`` of Intervals."""
    columns: dict[str, Any] = {}
    for name in table.columns:
        if name in intervals:
            values = list(table[name])
            for suffix, field in (("", "value"), ("_low", "low"), ("_high", "high")):
                columns[f"{name}{suffix}"] = [_part(value, field) for value in values]
        else:
            columns[str(name)] = table[name]
    return pd.DataFrame(columns, index=table.index)


def _snake(name: str) -> str:
    return name.replace(" ", "_").removesuffix("%")


def _part(value: object, field: str) -> float:
    return float(getattr(value, field)) if isinstance(value, Interval | Reached) else math.nan


def _examples(value: object) -> int:
    return value.examples if isinstance(value, Interval) else 0
