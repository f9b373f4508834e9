"""The headline table as people read it: sections of rows, and the words below them."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from opcd_bench.printable import one_line
from opcd_bench.report.analysis import learning, statistics
from opcd_bench.report.analysis.headline import CUT, IN_NATS, LEAKS, LOOPS
from opcd_bench.report.analysis.reached import Reached
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.tables.shown_methods import ceiling

GAINS = [
    "method", "learning rate", "seeds", "accuracy", "gap closed", "parsed", "tokens generated",
    "tokens scored", "seconds",
]  # fmt: skip
KEYS = GAINS[:3]
BEFORE, AFTER, CHANGE = IN_NATS
ZERO = "0.000"
WITHOUT = "without loops"
SHOWN = 0.01
"""Share of responses from which on the column `WITHOUT` is shown."""
SHOWN_CUT = 0.05
"""Share of retention responses that were cut from which on their column is shown."""
CONTROLS = "controls"
OTHER_RATES = "at other learning rates of the sweep"


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

    def __post_init__(self) -> None:
        """Names and notes may come from others' files: no form of a table holds control codes."""
        groups = tuple(
            Group(one_line(label), tuple(tuple(map(_seen, row)) for row in rows))
            for label, rows in self.groups
        )
        object.__setattr__(self, "title", one_line(self.title))
        object.__setattr__(self, "columns", tuple(map(one_line, self.columns)))
        object.__setattr__(self, "groups", groups)
        object.__setattr__(self, "notes", tuple(map(one_line, self.notes)))


def _seen(value: Value) -> Value:
    return one_line(value) if isinstance(value, str) else value


def sections(table: pd.DataFrame, named: Callable[[str], str] = str) -> list[Section]:
    """Of each task what was gained, how soon, what was forgotten, and last what is missing.

    ``table``: the frame of `headline`. Floor, base and ceiling are rows above the methods; a method
    comes with the rate at which it is compared, and its other rates below all of them. ``named``:
    how a method is called in the sentences below the tables.
    """
    found = []
    for task, rows in table.groupby("task", sort=False):
        done = rows[rows["seeds"] > 0]
        missing = tuple(_missing(rows, named))
        if done.empty:
            found.append(Section(str(task), (), (), missing))
            continue
        kept = [c.removesuffix(" after") for c in rows.columns if c.endswith(" after")]
        kept = [name for name in kept if done[f"{name} after"].notna().any()]
        nats = [c.removesuffix(f" {AFTER}") for c in rows.columns if c.endswith(f" {AFTER}")]
        nats = [name for name in nats if done[f"{name} {AFTER}"].notna().any()]
        learnt = [name for name in learning.COLUMNS if name in done and done[name].notna().any()]
        found.append(_gains(str(task), done, () if kept or nats or learnt else missing))
        if learnt:
            found.append(_efficiency(str(task), done, learnt, () if kept or nats else missing))
        if kept or nats:
            found.append(_retention(str(task), done, kept, nats, missing))
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
        "Accuracy on test and retention, in %. base: the student before training, without "
        "context. ceiling: the in-context teacher, which a student may exceed. floor: the best "
        "score of a few policies that do not use the context. gap closed: (method - base) / "
        "(ceiling - base), where the ceiling is shown to be above the base. parsed: responses that "
        "contain an answer. Tokens and seconds are means over the seeds: tokens generated by the "
        "rollout policy, tokens scored by the teacher, and seconds without evaluations, which also "
        "depend on what else the machine did.",
        f"Intervals: {statistics.method(done.to_numpy().ravel())}.",
        *_said_of_loops(done),
        *of_leaks(done),
        *_of_learning(done),
        *_smallest(done),
        *_of_nats(done),
        *_of_cut(done),
    ]
    rates = table.groupby(["task", "method"])["learning_rate"].nunique()
    if rates.max() > 1:
        said.append(
            "A method is compared at its learning rate with the most seeds; if several have as "
            "many, at the one that the suite's rule chooses on dev (headline_rule). Test scores "
            "play no part in this choice."
            + (" It may change while cells are missing." if _open(table) else "")
        )
    if (done["seeds"] == 1).any():
        said.append("Rows with one seed say nothing about seed variance.")
    return list(map(one_line, said))


def _said_of_loops(done: pd.DataFrame) -> list[str]:
    """What the column on loops is, where there is one."""
    if not any(_looping(rows) for _, rows in done.groupby("task", sort=False)):
        return []
    return [
        "Without loops: accuracy where a response counts as wrong if more than a third of its "
        "sequences of three words have stood before in it; a grader of form alone may count such a "
        "response as right. Where the column is absent, no accuracy would be lower by "
        f"{100 * SHOWN:.0f} point or more."
    ]


def of_leaks(done: pd.DataFrame, before: str = "of base") -> list[str]:
    """What the columns on leakage are; or that there is none, where it was measured."""
    if not any(name in done and done[name].notna().any() for name in LEAKS):
        return []
    if not any(leaking(rows, before) for _, rows in done.groupby("task", sort=False)):
        return ["No test response without context speaks of a context, or copies from it."]
    return [
        "Leakage, in test responses without context: mentions context is the share that speaks of "
        "a context; copies context is the share of their runs of four words that stand in the "
        "context and not in the prompt, which a right answer in its words may raise too. A table "
        "without these columns has 0 in both."
    ]


def _of_learning(done: pd.DataFrame) -> list[str]:
    """What the columns of efficiency are, where there are any."""
    if learning.AREA not in done or not done[learning.AREA].notna().any():
        return []
    return [
        "Efficiency, on dev, as a share of the gap (ceiling - base, on test): area under curve is "
        "the mean height of the learning curve above the base, in % (100: at the ceiling from the "
        "first step on). steps to 50%: optimiser steps until the curve averaged over the seeds "
        "first is half way, straight between evaluations; tokens: response tokens trained on until "
        "then. > N: not reached in N of them. Their intervals are bootstraps over seeds and items, "
        "too narrow with few seeds: judge by the area."
    ]


def _of_nats(done: pd.DataFrame) -> list[str]:
    """What the measures in nats are, where there are any."""
    if not any(column.endswith(f" {AFTER}") for column in done.columns):
        return []
    return [
        "In nats, where less is better: drift is the mean KL divergence of a token from the base "
        "model, on the base's own responses to the retention prompts (0 before training); loss is "
        "the mean loss of a token on texts that nothing is trained on. Both are averaged over "
        "responses or texts."
    ]


def _of_cut(done: pd.DataFrame) -> list[str]:
    """What the columns on responses that were cut are, where there are any."""
    names = [
        name
        for name in (c.removesuffix(" after") for c in done.columns if c.endswith(" after"))
        if any(_is_cut(rows, name) for _, rows in done.groupby("task", sort=False))
    ]
    if not names:
        return []
    return [
        f"cut: the share of responses to {', '.join(names)} that reached the length limit "
        "(retention_max_completion_length). A score of such a response is of its beginning, and "
        "where the share changes, a change of the score may be one of length. A table without "
        f"this column has less than {100 * SHOWN_CUT:.0f} % in every row."
    ]


def _is_cut(done: pd.DataFrame, name: str) -> bool:
    """Whether so many responses of a retention task were cut that a table says it."""
    found = [done[column] for of in CUT if (column := f"{name} {of}") in done.columns]
    return any((column.astype(float) >= SHOWN_CUT).any() for column in found)


def _open(table: pd.DataFrame) -> bool:
    rates = table.groupby(["task", "method"])["learning_rate"].transform("nunique")
    return bool(((rates > 1) & (table["state"] != "done")).any())


def _smallest(done: pd.DataFrame) -> list[str]:
    """The smallest detectable differences, of tasks with several methods and of those with one."""
    names = ["mde", *(c for c in done.columns if c.startswith("mde "))]
    beside: dict[bool, list[str]] = {False: [], True: []}
    for task, rows in done.groupby("task", sort=False):
        found = {
            task if name == "mde" else name.removeprefix("mde "): _least(rows, name)
            for name in names
            if _paired(rows, name)
        }
        if found:
            alone = rows if rows["mde"].isna().all() else rows[rows["mde"].notna()]
            lone = alone["method"].nunique() <= 1
            listed = ", ".join(f"{name} {least}" for name, least in found.items())
            beside[lone].append(listed)
    what = (
        "(paired by example and seed, one two-sided test at 5 %; at the learning rates "
        "with the most seeds"
    )
    said = []
    if beside[False]:
        said.append(
            "Minimum detectable effect: the smallest difference between two methods that would "
            f"be found with 80 % power {what}, the largest over the pairs): "
            f"{'; '.join(beside[False])}."
        )
    if beside[True]:
        said.append(
            "Minimum detectable effect: the smallest difference to the base that would be found "
            f"with 80 % power {what}): {'; '.join(beside[True])}."
        )
    return said


def _paired(rows: pd.DataFrame, name: str) -> bool:
    """Whether a measure has scores of two examples, without which nothing is paired."""
    of = "plain" if name == "mde" else f"{name.removeprefix('mde ')} after"
    return any(isinstance(value, Interval) and value.n > 1 for value in rows[of])


def _least(rows: pd.DataFrame, name: str) -> str:
    """The largest of some minimum detectable effects, in words."""
    value = rows[name].astype(float).max()
    if math.isnan(value):
        return "unknown, because all score alike on every example"
    if value > 1:
        return "none, because no difference that there can be would be found"
    return f"{100 * value:.1f} points"


def _gains(task: str, done: pd.DataFrame, notes: tuple[str, ...]) -> Section:
    first = done.iloc[0]
    over: list[Row] = [
        {"method": "floor", "accuracy": percent(first["floor"])},
        {"method": "base", "accuracy": first["base"], WITHOUT: _of_loops(first, "base")},
        *_ceilings(done),
    ]
    leaks = leaking(done)
    base = over[1]
    for name in leaks:
        base[name] = _value(done[f"{name} of base"].dropna().iloc[0])
    rows: list[Row] = [
        {
            **_keys(row),
            "accuracy": row["plain"],
            WITHOUT: _of_loops(row, "plain"),
            "gap closed": row["gap closed"],
            "parsed": percent(row["parsed"]),
            **{name: _value(row[name]) for name in leaks},
            "tokens generated": _count(row["tokens written"]),
            **{name: _count(row[name]) for name in ("tokens scored", "seconds")},
        }
        for row in done.to_dict("records")
    ]
    shown = [row for row in over if row["accuracy"] != ""]
    at = GAINS.index("parsed") + 1
    columns = [*GAINS[:at], *leaks, *GAINS[at:]]
    if _looping(done):
        columns.insert(columns.index("accuracy") + 1, WITHOUT)
    return _section(
        f"{task} ({_items(done['plain'], ' test examples')})", columns, shown, rows, done, notes
    )


def _looping(done: pd.DataFrame) -> bool:
    """Whether loops that count as wrong lower some accuracy by `SHOWN` or more."""
    return any(
        row[name].value - row[of].value >= SHOWN
        for name, of in LOOPS.items()
        if of in done
        for row in done.to_dict("records")
    )


def _of_loops(row: Mapping[str, Any], name: str) -> Value:
    """An accuracy of a row where responses that loop count as wrong."""
    return _value(row.get(LOOPS[name], ""))


def leaking(done: pd.DataFrame, before: str = "of base") -> list[str]:
    """Those of `LEAKS` that were measured, and are above 0 somewhere, if only as ``before``."""
    found = [name for name in LEAKS if name in done and done[name].notna().any()]
    return [
        name
        for name in found
        if any(one.value > 0 for of in (name, f"{name} {before}") for one in done[of].dropna())
    ]


def _efficiency(
    task: str, done: pd.DataFrame, names: Sequence[str], notes: tuple[str, ...]
) -> Section:
    rows: list[Row] = [
        {**_keys(row), **{name: _value(row[name]) for name in names}}
        for row in done.to_dict("records")
    ]
    return _section(f"{task}: efficiency", [*KEYS, *names], [], rows, done, notes)


def ceiling_name(row: Mapping[Hashable, Any]) -> str:
    """What a row of `headline` is measured against; the table says it where it is unusual."""
    name = "ceiling-larger" if row.get("larger") is True else "ceiling"
    return str(row.get("measured against", name))


def _ceilings(done: pd.DataFrame) -> list[Row]:
    """The told teachers of the methods: of each size, and each thing that they read."""
    found: dict[str, Row] = {}
    for row in done.to_dict("records"):
        name = ceiling_name(row)
        without = _of_loops(row, "ceiling")
        made: Row = {"method": ceiling(name), "accuracy": row["ceiling"], WITHOUT: without}
        found.setdefault(name, made)
    return [found[name] for name in sorted(found)]


def _retention(
    task: str,
    done: pd.DataFrame,
    names: Sequence[str],
    nats: Sequence[str],
    notes: tuple[str, ...],
) -> Section:
    base: Row = {"method": "base"}
    cut = [name for name in names if _is_cut(done, name)]
    for name in names:
        before = done[f"{name} before"].dropna()
        base[name] = _value(before.iloc[0])
        if name in cut:
            base[f"{name} cut"] = percent(done.iloc[0].get(f"{name} cut of base", math.nan))
    for name in nats:
        base[f"{name} (nats)"] = _nats(done[f"{name} {BEFORE}"].dropna().iloc[0])
    rows: list[Row] = []
    for row in done.to_dict("records"):
        made = _keys(row)
        for name in names:
            made[name] = _value(row[f"{name} after"])
            made[f"{name} change"] = _value(row[f"{name} change"])
            if name in cut:
                made[f"{name} cut"] = percent(row.get(f"{name} cut", math.nan))
        for name in nats:
            made[f"{name} (nats)"] = _nats(row[f"{name} {AFTER}"])
            if base[f"{name} (nats)"] != ZERO:  # else the change is the value itself
                made[f"{name} change (nats)"] = _nats(row[f"{name} {CHANGE}"])
        rows.append(made)
    kept = (c for name in names for c in (name, f"{name} change", f"{name} cut"))
    columns = [*KEYS, *kept]
    columns += [c for name in nats for c in (f"{name} (nats)", f"{name} change (nats)")]
    counts = [f"{name} {_items(done[f'{name} after'])}" for name in names]
    counts += [f"{name} {_items(done[f'{name} {AFTER}'])}" for name in nats]
    title = f"{task}: retention (items: {', '.join(counts)})"
    return _section(title, columns, [base], rows, done, notes)


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
    controls = done["control"] if "control" in done.columns else [False] * len(rows)
    labels = [
        *[""] * len(over),
        *(
            (CONTROLS if control else "") if headline else OTHER_RATES
            for headline, control in zip(done["headline"], controls, strict=True)
        ),
    ]
    groups = [
        Group(label, tuple(v for v, own in zip(values, labels, strict=True) if own == label))
        for label in ("", CONTROLS, OTHER_RATES)
        if label in labels
    ]
    return Section(title, tuple(filled), tuple(groups), notes)


def _missing(rows: pd.DataFrame, named: Callable[[str], str]) -> Iterator[str]:
    """What is not done, a sentence a reason."""
    for state, lacking in rows[rows["state"] != "done"].groupby("state", sort=False):
        rates = lacking.groupby("method", sort=False)["learning_rate"]
        cells = [
            f"{named(str(method))} at {', '.join(f'{rate:g}' for rate in sorted(of))}"
            for method, of in rates
        ]
        yield f"{state}: {'; '.join(cells)}"


def _keys(row: Mapping[Hashable, Any]) -> Row:
    rate = f"{row['learning_rate']:g}"
    return {"method": row["method"], "learning rate": rate, "seeds": Runs(tuple(row["runs"]))}


def _value(value: object) -> Value:
    """An entry as it is shown: an interval as such, a number as it is, nothing for what lacks."""
    if isinstance(value, Interval | Runs | str):
        return value
    if isinstance(value, Reached):
        return value.text()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _nats(value: object) -> str:
    """An interval in nats, as it is shown; nothing for what lacks."""
    return value.text() if isinstance(value, Interval) else ""


def _items(column: pd.Series, noun: str = "") -> str:
    """How many examples the intervals of a column rest on: ``96 test examples in 12 clusters``."""
    most = statistics.widest(column)
    return f"{most.examples}{noun}{most.clusters}"


def percent(share: float) -> str:
    """A share in [0, 1] as a table has it, in %; nothing for NaN."""
    return "" if math.isnan(share) else f"{100 * share:.1f}"


def _count(number: float) -> str:
    return "" if math.isnan(number) else f"{number:,.0f}"
