"""What several samples of a prompt show: pass@k, and how many distinct answers there are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from math import comb
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from opcd_bench.report.analysis import statistics
from opcd_bench.report.analysis.pairing import CLUSTER
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.analysis.stored_samples import Column, Record, SampleSet

LEAST = 4
"""Samples of a prompt, from which on its answers are counted."""
COLUMNS = ["task", "method", "samples", "pass at 1", "pass at all", "distinct", "prompts", "seeds"]
SCORED = ("correct", "wrong", "unparsable", "truncated")


def several(
    sets: Sequence[SampleSet],
    stands: Mapping[str, Mapping[str, float]],
    clusters: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
) -> pd.DataFrame:
    """One row a (task, base or ceiling or method); columns `COLUMNS`.

    Of the tasks' own test sets, and of prompts with at least `LEAST` scored samples. ``stands``:
    task -> method -> the rate at which it is compared. With n samples of a prompt, c of them
    correct: ``pass at 1`` is c / n, ``pass at all`` whether c > 0; ``distinct`` is the number of
    distinct answers among them (samples without an answer count as one), all averaged over prompts
    and seeds with the interval of `statistics.mean`: over prompts, or ``clusters`` (task -> example
    -> which) of them, and of methods over seeds too. ``samples`` is n, the fewest of any prompt: of
    prompts with more, ``pass at all`` is the chance of n of theirs and ``distinct`` counts the
    first n.
    """
    rows = []
    for one in sets:
        if one.split != "test":
            continue
        counted = {
            name: found
            for name, columns in _columns(one, stands.get(one.task, {})).items()
            if (found := _counted(columns))
        }
        fewest = min((len(each) for found in counted.values() for *_, each in found), default=0)
        of = clusters.get(one.task, {})
        rows += [_row(one.task, name, found, fewest, of) for name, found in counted.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


def pass_at(k: int, correct: int, n: int) -> float:
    """The chance that at least one of k of the n samples is correct (Chen and others, 2021)."""
    return 1.0 - comb(n - correct, k) / comb(n, k)


def _columns(one: SampleSet, rates: Mapping[str, float]) -> dict[str, dict[Column, Any]]:
    """base, ceiling and every method at its rate -> its columns."""
    found: dict[str, dict[Column, Any]] = {}
    for column, records in one.columns.items():
        if column.reading != "method" or rates.get(column.method) == column.rate:
            found.setdefault(column.method or column.reading, {})[column] = records
    return found


class _Prompt(NamedTuple):
    """What a run, or an anchor, gave to a prompt."""

    example: str
    seed: int
    reading: str
    samples: list[Record]


def _counted(columns: Mapping[Column, Any]) -> list[_Prompt]:
    """Every prompt and seed that has enough samples."""
    return [
        _Prompt(example, column.seed, column.reading, samples)
        for column in columns
        for example, samples in _prompts(columns[column])
        if len(samples) >= LEAST
    ]


def _prompts(records: Mapping[tuple[str, int], Record]) -> Iterator[tuple[str, list[Record]]]:
    found: dict[str, list[Record]] = {}
    for (example, _), record in records.items():
        if record.outcome in SCORED:
            found.setdefault(example, []).append(record)
    yield from found.items()


def _row(
    task: str,
    name: str,
    counted: Sequence[_Prompt],
    n: int,
    clusters: Mapping[str, str],
) -> dict[str, Any]:
    frame = pd.DataFrame({"example_id": [str(one.example) for one in counted]})
    if all(one.reading == "method" for one in counted):  # seeds of anchors are no trainings
        frame["seed"] = [one.seed for one in counted]
    if clusters:
        frame[CLUSTER] = frame["example_id"].map(clusters)

    def mean(values: Sequence[float], *, shares: bool = True) -> Interval:
        return statistics.mean(frame.assign(score=values), shares=shares)

    each = [one.samples for one in counted]
    correct = [sum(one.outcome == "correct" for one in samples) for samples in each]
    prompts = {one.example for one in counted}
    return {
        "task": task,
        "method": name,
        "samples": n,
        "pass at 1": mean([c / len(e) for c, e in zip(correct, each, strict=True)]),
        "pass at all": mean([pass_at(n, c, len(e)) for c, e in zip(correct, each, strict=True)]),
        "distinct": mean([float(_distinct(samples[:n])) for samples in each], shares=False),
        "prompts": len(prompts),
        "seeds": len(counted) // len(prompts),
    }


def _distinct(samples: Collection[Record]) -> int:
    return len({one.answer for one in samples})
