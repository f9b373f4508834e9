"""The prefix probe as tables: a table a student, a row a teacher and share of its tokens."""

from __future__ import annotations

import pandas as pd

from opcd_bench.report.analysis.prefixes import KEYS, STUDENT
from opcd_bench.report.analysis.probed_step import step_words
from opcd_bench.report.tables.layout import Group, Section, Value

HEADINGS = (
    "goes on", "after", "accuracy", "on own tokens", "mismatch", "student wrong", "turned right",
    "of its own", "by the student", "rescue",
)  # fmt: skip
INTERVALS = ("accuracy", "own", "mismatch", "wrong", "turned", "own_turned", "luck", "rescue")
HALF = 0.5
NOTE = (
    "In %, with 95 % intervals, paired by example. The student writes without context; after a "
    "share of its tokens another goes on. accuracy: of what comes of it; on own tokens: after as "
    "much of a response of the same writer; mismatch: their difference. Of the responses that the "
    "student got wrong: turned right, also by the student from the same tokens, and the "
    "difference, the rescue. of its own: of the responses that whoever goes on got wrong itself, "
    "turned right from as many of its own tokens."
)


def sections(frame: pd.DataFrame) -> list[Section]:
    """`prefixes` as tables; none where it is empty."""
    return [_section(rows) for _, rows in frame.groupby(KEYS, sort=False, dropna=False)]


def conclusions(frame: pd.DataFrame) -> list[str]:
    """One line a task: whom half of the first student's response costs accuracy, and by how much.

    The first student is the base, where it was probed.
    """
    found = []
    for task, rows in frame[frame["teacher"] != STUDENT].groupby("task", sort=False):
        method = next((name for name in rows["method"] if name == "base"), rows["method"].iloc[0])
        half = rows[(rows["method"] == method) & (rows["share"] == HALF)].to_dict("records")
        costs = [
            f"{row['teacher']} ({row['mismatch'].points()} points)"
            for row in half
            if row["mismatch"].high < 0
        ]
        others = [str(row["teacher"]) for row in half if not row["mismatch"].high < 0]
        says = [f"costs accuracy to {' and '.join(costs)}"] if costs else []
        says += [f"is not shown to cost any to {' or '.join(others)}"] if others else []
        if says:
            whose = f"half of a response of {method}, in the place of half of their own,"
            found.append(f"{task}: {whose} {'; it '.join(says)}.")
    return found


def _section(rows: pd.DataFrame) -> Section:
    first = rows.iloc[0]
    rate = "" if pd.isna(first["learning_rate"]) else f" at learning rate {first.learning_rate:g}"
    seeds = "one seed" if first["seeds"] == 1 else f"{first['seeds']} seeds"
    title = f"{first['task']}: {first['method']}{rate}, {step_words(first['step'])}, {seeds}"
    groups = tuple(
        Group("", tuple(_line(row) for row in part.to_dict("records")))
        for _, part in rows.groupby("teacher", sort=False)
    )
    return Section(title, HEADINGS, groups, (NOTE,))


def _line(row: dict[str, object]) -> tuple[Value, ...]:
    itself = row["teacher"] == STUDENT
    void = ["own", "mismatch", "own_turned", "rescue"] if itself else []
    void += ["own_turned"] if row["share"] == 0 else []
    values = ["" if name in void else row[name] for name in INTERVALS]
    return (str(row["teacher"]), f"{row['share']:.0%}", *values)  # type: ignore[arg-type]
