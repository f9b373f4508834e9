"""The verdict: what the statistics say of each task, in one or two sentences."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd

from opcd_bench.config import measures
from opcd_bench.report.analysis import statistics
from opcd_bench.report.analysis.discrimination import ONE_TRAINING, cannot_be
from opcd_bench.report.analysis.floors import AboveFloor
from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.figures.words import listed

MOST, FEW = 4, 2
"""Names that a sentence lists, of more how many; and numbers, of more the best."""
BETTER = {"gain": "gains more", "efficiency": "learns faster"}
MEASURES = {"gain": "gain", "efficiency": "efficiency"}
NOBODY = "no two methods are separated"


class Verdict(NamedTuple):
    """What a task's statistics say."""

    task: str
    text: str


class _Shown(NamedTuple):
    """By measure the smallest difference that would show, corrected for so many ``tests``."""

    least: pd.Series
    tests: int


def verdicts(
    groups: pd.DataFrame,
    pairs: pd.DataFrame,
    discrimination: pd.DataFrame,
    marks: Marks,
    tasks: Sequence[str],
    standing_still: Collection[tuple[str, str]] = (),
    floors: Mapping[str, AboveFloor] = MappingProxyType({}),
) -> list[Verdict]:
    """A verdict a task, in the order of ``tasks``; none where nothing was scored.

    ``groups``, ``pairs``, ``discrimination``: of the comparison. Only differences that hold after
    correction are called differences; controls take no part. ``standing_still``: (task, method) of
    those whose every training has the base as its chosen step: they lose nothing, and it is no
    merit of theirs. ``floors``: of each task, who is shown to be above its floor.
    """
    found = []
    tests = int((~pairs["control"].astype(bool) & pairs["p"].notna()).sum())
    for task in tasks:
        mine = groups[(groups["task"] == task) & ~groups["control"].astype(bool)]
        if mine.empty:
            of_controls = groups[(groups["task"] == task) & (groups["kind"] == "gain")]
            if len(of_controls):
                found.append(Verdict(str(task), _controls(of_controls, marks)))
            continue
        told = pairs[(pairs["task"] == task) & ~pairs["control"].astype(bool)]
        smallest = discrimination[discrimination["task"] == task].set_index("measured")
        least = smallest["mde_corrected"]
        still = {method for where, method in standing_still if where == task}
        parts = [_verdict(mine, told, _Shown(least, tests), marks, still)]
        if len(told) and 0 < told["seeds"].map(len).max() < statistics.FEWEST_SEEDS:
            parts.append(ONE_TRAINING)
        if task in floors:
            parts += _floor(floors[task], marks, still)
        found.append(Verdict(str(task), " ".join(parts)))
    return found


def _verdict(
    groups: pd.DataFrame,
    pairs: pd.DataFrame,
    shown: _Shown,
    marks: Marks,
    still: Collection[str],
) -> str:
    """What was found, in a sentence; and where nothing was, in another."""
    if groups["method"].nunique() == 1:
        return _alone(groups, marks)
    kept = ~groups["kind"].isin(BETTER)
    groups = groups[~(kept & groups["method"].isin(still))]
    clauses, nothing = [], []
    for measured, rows in groups.groupby("measured", sort=False):
        clause = _clause(rows, pairs[pairs["measured"] == measured], marks)
        if clause:
            clauses.append(clause)
        else:
            nothing.append(rows)
    found = [f"{'; '.join(clauses)}."] if clauses else []
    if nothing:
        found.append(_undecided(nothing, pairs, shown))
    if still:
        names = [name for name in marks if name in still]
        stand, are = ("stands", "is") if len(still) == 1 else ("stand", "are")
        found.append(
            f"{_some(names, marks)} {stand} at the base (no step of the training was better on "
            f"dev) and {are} not compared on retention."
        )
    return " ".join(found)


def _controls(gains: pd.DataFrame, marks: Marks) -> str:
    """Of a task with nothing but controls, which are to gain nothing: who is shown to."""
    gained = [row.method for row in gains.itertuples() if row.value.low > 0]
    names = [name for name in marks if name in gained]
    if names:
        return f"only controls have run, and {_some(names, marks)} gained, which they should not."
    largest = max(row.value.value for row in gains.itertuples())
    return (
        "only controls have run: none is shown to gain over the base "
        f"(the largest change is {look.change(largest)} points)."
    )


def _floor(stands: AboveFloor, marks: Marks, still: Collection[str]) -> list[str]:
    """Who is not shown to know more than a policy that does not use the context."""
    below = [name for name in marks if name in stands.below and name not in still]
    where = f"above the floor, {100 * stands.floor:.1f} % ({stands.name})"
    if not stands.some:
        said = f"No method is shown to be {where}"
    elif below:
        verb = "is" if len(below) == 1 else "are"
        said = f"{_some(below, marks)} {verb} not shown to be {where}"
    else:
        return []
    return [f"{said}." if stands.ceiling else f"{said}, nor is the in-context teacher."]


def _alone(groups: pd.DataFrame, marks: Marks) -> str:
    """Of a single method: what it gained and lost."""
    parts = [
        f"{_measure(row.measured, row.kind)} {_number(row.value.value, row.kind, row.unit)} "
        f"{_unit(row.kind, row.unit)}"
        for row in groups.itertuples()
    ]
    label = marks[groups["method"].iloc[0]].label
    return f"only {label} has finished ({', '.join(parts)}): there is nothing to compare it with."


def _clause(rows: pd.DataFrame, pairs: pd.DataFrame, marks: Marks) -> str:
    """``A gains more than B and C (+4.2 against +3.0 and +1.0 points)``; or "".

    A is the best of those that beat anybody, so nobody beats A. The groups have all the rest.
    """
    sure = pairs[pairs["separated"].astype(bool)]
    if sure.empty:
        return ""
    ranks = dict(zip(rows["method"], rows["rank"], strict=True))
    leader = min(set(sure["winner"]), key=lambda name: (ranks.get(name, len(ranks)), name))
    beaten = _beaten(sure, leader)
    others = [name for name in look.ordered(marks, ranks) if name != leader]
    kind, unit, measured = (str(rows[name].iloc[0]) for name in ("kind", "unit", "measured"))
    values = {row.method: _number(row.value.value, kind, unit) for row in rows.itertuples()}
    text = f"{marks[leader].label} {_better(kind, unit, measured)} than "
    losers = [name for name in others if name in beaten]
    unit, own = _unit(kind, unit), values[leader]
    if len(losers) > FEW:
        nearest = values[min(losers, key=lambda name: ranks[name])]
        numbers = f"{own} {unit}, the best of them {nearest}"
    else:
        numbers = f"{own} against {listed([values[name] for name in losers])} {unit}"
    return text + _named(losers, others, numbers, f"{own} {unit}", marks)


def _beaten(sure: pd.DataFrame, leader: str) -> set[str]:
    won = sure[sure["winner"] == leader]
    return {*won["method"], *won["other"]} - {leader}


def _named(
    losers: Sequence[str], others: Sequence[str], numbers: str, own: str, marks: Marks
) -> str:
    """Whom a method beats, with the numbers; of many with its ``own`` alone."""
    if len(losers) <= MOST:
        return f"{_some(losers, marks)} ({numbers})"
    all_of_them = len(losers) == len(others)
    who = "all others" if all_of_them else f"{len(losers)} of the {len(others)} others"
    return f"{who} ({own})"


def _undecided(open_ones: Sequence[pd.DataFrame], pairs: pd.DataFrame, shown: _Shown) -> str:
    """That no two are separated on these measures, and what would have shown."""
    names, sizes, alike = [], [], []
    for rows in open_ones:
        measured, kind, unit = (str(rows[name].iloc[0]) for name in ("measured", "kind", "unit"))
        name = _measure(measured, kind)
        told = pairs[pairs["measured"] == measured]
        if len(told) and told["equivalent"].astype(bool).all():
            alike.append(f"{name} within ±{_size(float(told['margin'].max()), kind, unit)}")
            continue
        names.append(name)
        sizes.append(_least(float(shown.least.get(measured, math.nan)), kind, unit))
    found = []
    if names:
        many = "s" if len(names) > 1 else ""
        verb = "are" if many else "is"
        corrected = f", corrected for {shown.tests:,} tests," if shown.tests > 1 else ""
        found.append(
            f"In {listed(names)} {NOBODY}: the smallest difference{many} that would "
            f"show{corrected} {verb} {listed(sizes)}"
        )
    if alike:
        found.append(f"all methods are alike in {listed(alike)}")
    return f"{'; '.join(found)}."


def _least(value: float, kind: str, unit: str) -> str:
    """The smallest difference that would show, or that there is no room for it."""
    if math.isnan(value):
        return "not known"
    if cannot_be(value, kind, unit):
        return "larger than any that there can be"
    if kind == "efficiency" and value > 1:
        return "larger than the whole gap"
    return _size(value, kind, unit)


def _better(kind: str, unit: str, measured: str) -> str:
    if kind in BETTER:
        return BETTER[kind]
    name = measures.title(measured)
    return f"has less {name}" if unit == "nats" else f"forgets less of {name}"


def _measure(measured: str, kind: str) -> str:
    return MEASURES.get(kind, measures.title(measured))


def _some(names: Sequence[str], marks: Marks) -> str:
    if len(names) > MOST:
        return f"{len(names)} others"
    return listed([marks[name].label for name in names])


def _number(value: float, kind: str, unit: str) -> str:
    if unit == "nats":
        return f"{value:.3f}"
    if kind == "efficiency":
        return f"{100 * value:.0f}".replace("-", look.MINUS)
    return look.change(value)


def _unit(kind: str, unit: str) -> str:
    if unit == "nats":
        return unit
    return "% of the gap" if kind == "efficiency" else "points"


def _size(value: float, kind: str, unit: str) -> str:
    number = f"{value:.3f}" if unit == "nats" else f"{100 * value:.1f}"
    return f"{number} {_unit(kind, unit)}"
