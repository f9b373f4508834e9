"""What methods are compared on: gain, efficiency and every retention measure, method by method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from opcd_bench.report.analysis import statistics
from opcd_bench.report.analysis.headline import TEST
from opcd_bench.report.analysis.learning import learning
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.analysis.standing import Standing, measures, standings
from opcd_bench.report.analysis.statistics import Interval

EFFICIENCY = "efficiency"
KEYS = ["task", "measured", "kind", "unit", "better"]
"""The columns that name a measure."""


@dataclass(frozen=True)
class Member:
    """A method on one measure. ``scores``: its samples; ``value``: what it comes to.

    That is the gain over the base, the area under the learning curve, or the change of retention.
    """

    stands: Standing
    scores: pd.DataFrame
    value: Interval


@dataclass(frozen=True)
class Measure:
    """A measure of a task, and the methods that were scored on it, by name.

    ``measured``: "test", "efficiency", or a retention measure. ``unit`` "share": 1 is 100 points,
    or the whole gap. In nats less is better.
    """

    task: str
    measured: str
    kind: Literal["gain", "efficiency", "retention"]
    unit: Literal["share", "nats"]
    members: tuple[Member, ...]

    @property
    def compared(self) -> tuple[Member, ...]:
        """Who is compared: of retention, not what stands at the base, which lost nothing."""
        whole = self.kind != "retention"
        return tuple(member for member in self.members if whole or not member.stands.still)

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.unit == "share" else -1

    @property
    def bounded(self) -> bool:
        """Whether its scores are shares in [0, 1]."""
        return self.unit == "share" and self.kind != "efficiency"

    def keys(self) -> dict[str, Any]:
        """The values of `KEYS`."""
        better = "higher" if self.sign > 0 else "lower"
        found = {"kind": self.kind, "unit": self.unit, "better": better}
        return {"task": self.task, "measured": self.measured, **found}


def measured(results: StoredResults) -> Iterator[Measure]:
    """Every measure: by task gain, efficiency, retention in shares and in nats, by name."""
    for task, methods in standings(results).items():
        for name in measures(methods):
            if name == TEST:
                yield Measure(
                    task, TEST, "gain", "share", _accuracies(results, task, TEST, methods)
                )
                if areas := tuple(_areas(results, task, methods)):
                    yield Measure(task, EFFICIENCY, "efficiency", "share", areas)
            else:
                members = _accuracies(results, task, name, methods)
                yield Measure(task, name, "retention", "share", members)
        for name, members in _in_nats(results, task, methods).items():
            yield Measure(task, name, "retention", "nats", members)


def _accuracies(
    results: StoredResults, task: str, name: str, methods: Sequence[Standing]
) -> tuple[Member, ...]:
    base = results.anchor("base", task, name)
    return tuple(
        Member(method, method.scores[name], statistics.difference(method.scores[name], base))
        for method in methods
        if name in method.scores
    )


def _areas(results: StoredResults, task: str, methods: Sequence[Standing]) -> Iterator[Member]:
    for method in methods:
        found = learning(results, method.key(task), method.seeds)
        if found is not None:
            yield Member(method, found.samples(), found.area)


def _in_nats(
    results: StoredResults, task: str, methods: Sequence[Standing]
) -> Mapping[str, tuple[Member, ...]]:
    nats, before = results.nats, results.nats_base
    found: dict[str, list[Member]] = {}
    for method in methods:
        own = nats[
            (nats["task"] == task)
            & (nats["method"] == method.method)
            & (nats["learning_rate"] == method.learning_rate)
        ]
        for name, scores in own.groupby("measured", sort=True):
            base = before[before["measured"] == name]
            change = statistics.difference(scores, base, shares=False)
            found.setdefault(str(name), []).append(Member(method, scores, change))
    return {name: tuple(found[name]) for name in sorted(found)}
