"""The prefix probe as tables: a table a student, a row a teacher and share of its tokens."""

from __future__ import annotations

import pandas as pd

from opcd_bench.report.analysis.prefixes import KEYS, STUDENT
from opcd_bench.report.tables.layout import Group, Section, Value

HEADINGS = (
    "goes on", "after", "accuracy", "on own tokens", "mismatch", "student wrong", "turned right",
    "by the student", "rescue",
)  # fmt: skip
INTERVALS = ("accuracy", "own", "mismatch", "wrong", "turned", "luck", "rescue")
NOTE = (
    "In %, with 95 % intervals, paired by example. The student writes without context; after a "
    "share of its tokens another goes on. accuracy: of what comes of it; on own tokens: after as "
    "much of a response of the same writer; mismatch: their difference. Of the responses that the "
    "student got wrong: turned right, also by the student from the same tokens, and the "
    "difference, the rescue."
)


def sections(frame: pd.DataFrame) -> list[Section]:
    """`prefixes` as tables; none where it is empty."""
    return [_section(rows) for _, rows in frame.groupby(KEYS, sort=False, dropna=False)]


def _section(rows: pd.DataFrame) -> Section:
    first = rows.iloc[0]
    rate = "" if pd.isna(first["learning_rate"]) else f" at learning rate {first.learning_rate:g}"
    seeds = "one seed" if first["seeds"] == 1 else f"{first['seeds']} seeds"
    title = f"{first['task']}: {first['method']}{rate}, step {first['step']}, {seeds}"
    groups = tuple(
        Group("", tuple(_line(row) for row in part.to_dict("records")))
        for _, part in rows.groupby("teacher", sort=False)
    )
    return Section(title, HEADINGS, groups, (NOTE,))


def _line(row: dict[str, object]) -> tuple[Value, ...]:
    itself = row["teacher"] == STUDENT
    values = ["" if itself and name in ("own", "mismatch", "rescue") else row[name]
              for name in INTERVALS]  # fmt: skip
    return (str(row["teacher"]), f"{row['share']:.0%}", *values)  # type: ignore[arg-type]
