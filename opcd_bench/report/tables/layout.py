"""The headline table as people read it: sections of rows, and the words below them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from opcd_bench.report.analysis import statistics
from opcd_bench.report.analysis.statistics import Interval

GAINS = [
    "method", "rate", "seeds", "accuracy", "gap closed", "parsed", "tokens written",
    "tokens scored", "seconds",
]  # fmt: skip
KEYS = GAINS[:3]
OTHER_RATES = "at other rates of the sweep"


class Runs(NamedTuple):
    """How many seeds a row rests on, and the runs."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return "one seed" if len(self.names) == 1 else str(len(self.names))


Value = Interval | Runs | str
Row = dict[str, Value]


class Group(NamedTuple):
    """Rows below a label of their own; no label where it is empty."""

    label: str
    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True)
class Section:
    """One table: its title, its columns, its rows in groups, and sentences that belong to it."""

    title: str
    columns: tuple[str, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()


def sections(table: pd.DataFrame) -> list[Section]:
    """Of each task what was gained, what was forgotten, and last which cells are missing.

    ``table``: the frame of `headline`. Floor, base and ceiling are rows above the methods; a method
    comes with the rate at which it is compared, and its other rates below all of them.
    """
    found = []
    for task, rows in table.groupby("task", sort=False):
        done = rows[rows["seeds"] > 0]
        missing = tuple(_missing(rows))
        if done.empty:
            found.append(Section(str(task), (), (), missing))
            continue
        kept = [c.removesuffix(" after") for c in rows.columns if c.endswith(" after")]
        kept = [name for name in kept if done[f"{name} after"].notna().any()]
        found.append(_gains(str(task), done, () if kept else missing))
        if kept:
            found.append(_retention(str(task), done, kept, missing))
    return found


def of_frame(title: str, frame: pd.DataFrame, note: str = "") -> Section:
    """A section of rows that were not measured here, its columns those of ``frame``.

    Intervals are shown in %, other numbers as they are, what is missing as nothing.
    """
    rows = tuple(tuple(map(_value, row)) for row in frame.itertuples(index=False, name=None))
    columns = tuple(str(column) for column in frame.columns)
    return Section(title, columns, (Group("", rows),), (note,) if note else ())


def caption(table: pd.DataFrame) -> list[str]:
    """What the numbers are, and what they do not say."""
    done = table[table["seeds"] > 0]
    if done.empty:
        return ["No cell is done."]
    said = [
        "Accuracy on test and retention in %; base: the student before training, plain; ceiling: "
        "the teacher, told; floor: the best that reads nothing; gap closed: (method - base) / "
        "(ceiling - base); parsed: replies with an answer in them. Tokens and seconds: mean of the "
        "seeds; written by whoever writes, scored by the teacher; seconds leave evaluations out "
        "and depend on what else the machine did.",
        f"Intervals: {statistics.METHOD}. They hold for the seeds that ran; the spread between "
        "trainings is not in them.",
        *_smallest(done),
    ]
    rates = table.groupby(["task", "method"])["learning_rate"].nunique()
    if rates.max() > 1:
        said.append(
            "A method is compared at the rate with the most seeds; of several, the one with the "
            "highest dev accuracy at its chosen step; of equals the smallest. Test has no say."
            + (" Where cells are missing it may change." if _open(table) else "")
        )
    if (done["seeds"] == 1).any():
        said.append("One seed says nothing about the spread between trainings.")
    return said


def _open(table: pd.DataFrame) -> bool:
    rates = table.groupby(["task", "method"])["learning_rate"].transform("nunique")
    return bool(((rates > 1) & (table["state"] != "done")).any())


def _smallest(done: pd.DataFrame) -> list[str]:
    """The smallest detectable differences, of tasks with several methods and of those with one."""
    names = ["mde", *(c for c in done.columns if c.startswith("mde "))]
    beside: dict[bool, list[str]] = {False: [], True: []}
    for task, rows in done.groupby("task", sort=False):
        values = {
            name.removeprefix("mde "): rows[name].astype(float).max()
            for name in names
            if rows[name].notna().any()
        }
        if values:
            lone = rows.loc[rows["mde"].notna(), "method"].nunique() <= 1
            listed = ", ".join(
                f"{task if name == 'mde' else name} "
                + (f"{100 * value:.1f} points" if value > 0 else "cannot be told, all score alike")
                for name, value in values.items()
            )
            beside[lone].append(listed)
    what = (
        "(paired by example, averaged over seeds, two-sided 5 %; at the rates with the most seeds"
    )
    said = []
    if beside[False]:
        said.append(
            "Smallest difference between two methods that would be found with 80 % power "
            f"{what}, the largest over the pairs): {'; '.join(beside[False])}."
        )
    if beside[True]:
        said.append(
            "Smallest difference to the base that would be found with 80 % power "
            f"{what}): {'; '.join(beside[True])}."
        )
    return said


def _gains(task: str, done: pd.DataFrame, notes: tuple[str, ...]) -> Section:
    first = done.iloc[0]
    over: list[Row] = [
        {"method": "floor", "accuracy": _percent(first["floor"])},
        {"method": "base", "accuracy": first["base"]},
        *_ceilings(done),
    ]
    rows: list[Row] = [
        {
            **_keys(row),
            "accuracy": row["plain"],
            "gap closed": row["gap closed"],
            "parsed": _percent(row["parsed"]),
            **{name: _count(row[name]) for name in ("tokens written", "tokens scored", "seconds")},
        }
        for row in done.to_dict("records")
    ]
    shown = [row for row in over if row["accuracy"] != ""]
    return _section(task, GAINS, shown, rows, done, notes)


def _ceilings(done: pd.DataFrame) -> list[Row]:
    """The told teacher, and the larger one where it teaches some of the methods."""
    if "larger" not in done.columns:
        return [{"method": "ceiling", "accuracy": done.iloc[0]["ceiling"]}]
    found: list[Row] = []
    for larger, name in ((False, "ceiling"), (True, "ceiling, larger")):
        rows = done[done["larger"] == larger]
        if not rows.empty:
            found.append({"method": name, "accuracy": rows.iloc[0]["ceiling"]})
    return found


def _retention(
    task: str, done: pd.DataFrame, names: Sequence[str], notes: tuple[str, ...]
) -> Section:
    base: Row = {"method": "base"}
    for name in names:
        before = done[f"{name} before"].dropna()
        base[name] = _value(before.iloc[0])
    rows: list[Row] = []
    for row in done.to_dict("records"):
        made = _keys(row)
        for name in names:
            made[name] = _value(row[f"{name} after"])
            made[f"{name} change"] = _value(row[f"{name} change"])
        rows.append(made)
    columns = [*KEYS, *(column for name in names for column in (name, f"{name} change"))]
    return _section(f"{task}: retention", columns, [base], rows, done, notes)


def _section(
    title: str,
    columns: Sequence[str],
    over: Sequence[Row],
    rows: Sequence[Row],
    done: pd.DataFrame,
    notes: tuple[str, ...],
) -> Section:
    """``rows`` are those of ``done``; columns without any value are left out."""
    filled = [c for c in columns if any(row.get(c, "") != "" for row in (*over, *rows))]
    values = [tuple(row.get(column, "") for column in filled) for row in (*over, *rows)]
    stands = [*[True] * len(over), *(bool(value) for value in done["headline"])]
    groups = [Group("", tuple(v for v, here in zip(values, stands, strict=True) if here))]
    if others := tuple(v for v, here in zip(values, stands, strict=True) if not here):
        groups.append(Group(OTHER_RATES, others))
    return Section(title, tuple(filled), tuple(groups), notes)


def _missing(rows: pd.DataFrame) -> Iterator[str]:
    """What is not done, a sentence a reason."""
    for state, lacking in rows[rows["state"] != "done"].groupby("state", sort=False):
        cells = [
            f"{method} at {', '.join(f'{rate:g}' for rate in sorted(of['learning_rate']))}"
            for method, of in lacking.groupby("method", sort=False)
        ]
        yield f"{state}: {'; '.join(cells)}"


def _keys(row: Mapping[Hashable, Any]) -> Row:
    rate = f"{row['learning_rate']:g}"
    return {"method": row["method"], "rate": rate, "seeds": Runs(tuple(row["runs"]))}


def _value(value: object) -> Value:
    """An entry as it is shown: an interval as such, a number as it is, nothing for what lacks."""
    if isinstance(value, Interval | Runs | str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _percent(share: float) -> str:
    return "" if math.isnan(share) else f"{100 * share:.1f}"


def _count(number: float) -> str:
    return "" if math.isnan(number) else f"{number:,.0f}"
