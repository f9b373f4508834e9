"""The verdict: what the statistics say of each task, in one or two sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.figures.words import listed

MOST = 4
"""Names that a sentence lists; of more it says how many."""
BETTER = {"gain": "gains more", "efficiency": "learns faster"}
ALIKE = {"gain": "by gain", "efficiency": "by efficiency"}


class Verdict(NamedTuple):
    """What a task's statistics say."""

    task: str
    text: str


def verdicts(
    groups: pd.DataFrame,
    pairs: pd.DataFrame,
    discrimination: pd.DataFrame,
    marks: Marks,
    tasks: Sequence[str],
) -> list[Verdict]:
    """A verdict a task, in the order of ``tasks``; none where nothing was scored.

    ``groups``, ``pairs``, ``discrimination``: of the comparison. Only differences that hold after
    correction are called differences; controls take no part.
    """
    found = []
    for task in tasks:
        mine = groups[(groups["task"] == task) & ~groups["control"].astype(bool)]
        if mine.empty:
            continue
        told = pairs[(pairs["task"] == task) & ~pairs["control"].astype(bool)]
        smallest = discrimination[discrimination["task"] == task].set_index("measured")["mde"]
        found.append(Verdict(str(task), _verdict(mine, told, smallest, marks)))
    return found


def _verdict(groups: pd.DataFrame, pairs: pd.DataFrame, smallest: pd.Series, marks: Marks) -> str:
    if groups["method"].nunique() == 1:
        return " ".join(_alone(groups, marks))
    asked: dict[bool, list[pd.DataFrame]] = {True: [], False: []}
    for _, rows in groups.groupby("measured", sort=False):
        asked[rows["kind"].iloc[0] in BETTER].append(rows)
    return " ".join(
        sentence
        for learnt in (True, False)
        if asked[learnt]
        for sentence in _sentences(asked[learnt], pairs, smallest, marks)
    )


def _alone(groups: pd.DataFrame, marks: Marks) -> Iterator[str]:
    """Of a single method: what it gained and lost, with intervals."""
    label = marks[groups["method"].iloc[0]].label
    parts = [
        f"{_measure(row.measured, row.kind)}: {_number(row.value.value, row.kind, row.unit)} "
        f"{_unit(row.kind, row.unit)}"
        for row in groups.itertuples()
    ]
    yield f"Only {label} has finished ({'; '.join(parts)}), so there is nothing to compare it with."


def _sentences(
    measures: Sequence[pd.DataFrame], pairs: pd.DataFrame, smallest: pd.Series, marks: Marks
) -> Iterator[str]:
    """What was found on these measures, in a sentence; and where nothing was, in another."""
    clauses, nothing = [], []
    for rows in measures:
        told = pairs[pairs["measured"] == rows["measured"].iloc[0]]
        clause = _clause(rows, told, marks)
        if clause:
            clauses.append(clause)
        else:
            nothing.append(rows)
    if clauses:
        yield f"{'; '.join(clauses)}."
    if nothing:
        yield _undecided(nothing, pairs, smallest, marks)


def _clause(rows: pd.DataFrame, pairs: pd.DataFrame, marks: Marks) -> str:
    """``A gains more than B (+4.2 against +3.0 points), and cannot be told apart from C``; or "".

    A is the best of those that beat anybody, so nobody beats A.
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
    text += _named(losers, others, values, values[leader], _unit(kind, unit), marks)
    left = [name for name in others if name not in beaten]
    if left:
        text += f", and cannot be told apart from {_some(left, marks)}"
    return text


def _beaten(sure: pd.DataFrame, leader: str) -> set[str]:
    won = sure[sure["winner"] == leader]
    return {*won["method"], *won["other"]} - {leader}


def _named(
    losers: Sequence[str],
    others: Sequence[str],
    values: Mapping[str, str],
    own: str,
    unit: str,
    marks: Marks,
) -> str:
    """Whom a method beats, with the numbers."""
    if len(losers) <= MOST:
        against = listed([values[name] for name in losers])
        return f"{_some(losers, marks)} ({own} against {against} {unit})"
    all_of_them = len(losers) == len(others)
    who = "all others" if all_of_them else f"{len(losers)} of the {len(others)} others"
    return f"{who} ({own} {unit})"


def _undecided(
    measures: Sequence[pd.DataFrame], pairs: pd.DataFrame, smallest: pd.Series, marks: Marks
) -> str:
    """That nobody can be told apart on these measures, and what would have shown."""
    names = look.ordered(marks, {name for rows in measures for name in rows["method"]})
    shown = []
    for rows in measures:
        measured, kind, unit = (str(rows[name].iloc[0]) for name in ("measured", "kind", "unit"))
        least = float(smallest.get(measured, float("nan")))
        told = pairs[pairs["measured"] == measured]
        text = ALIKE.get(kind, f"on {measured}")
        if len(told) and told["equivalent"].astype(bool).all():
            text += f" (alike within ±{_size(float(told['margin'].max()), unit)})"
        elif least == least:
            text += f" (the smallest difference that would show is {_size(least, unit)})"
        shown.append(text)
    who = "The methods" if len(names) > MOST else _some(names, marks)
    return f"{who} cannot be told apart {listed(shown)}."


def _better(kind: str, unit: str, measured: str) -> str:
    if kind in BETTER:
        return BETTER[kind]
    return f"has less {measured}" if unit == "nats" else f"forgets less of {measured}"


def _measure(measured: str, kind: str) -> str:
    return {"gain": "gain on test", "efficiency": "efficiency"}.get(kind, measured)


def _some(names: Sequence[str], marks: Marks) -> str:
    if len(names) > MOST:
        return f"{len(names)} others"
    return listed([marks[name].label for name in names])


def _number(value: float, kind: str, unit: str) -> str:
    if unit == "nats":
        return f"{value:.3f}"
    return f"{100 * value:.0f}" if kind == "efficiency" else look.change(value)


def _unit(kind: str, unit: str) -> str:
    if unit == "nats":
        return unit
    return "% of the gap" if kind == "efficiency" else "points"


def _size(value: float, unit: str) -> str:
    return f"{value:.3f} nats" if unit == "nats" else f"{100 * value:.1f} points"
