"""The optimum probe as tables: distances in nats, and what theory predicts beside what was got."""

from __future__ import annotations

from typing import Any

import pandas as pd

from opcd_bench.report.analysis.optima import LOSSES, WHO
from opcd_bench.report.analysis.probed_step import step_words
from opcd_bench.report.tables.layout import Group, Section, Value

DISTANCES = (
    "method", "learning rate", "least forward KL", "student above it", "least reverse KL",
    "above it",
)  # fmt: skip
ANSWERS = (
    "method", "learning rate", "in-context teacher", "forward optimum", "reverse optimum",
    "measured", "likeliest: teacher", "forward", "reverse", "student's",
)  # fmt: skip
IN_NATS = (
    "In nats, means over prompts with 95 % intervals. A prompt may belong to any of the contexts. "
    "The mean KL from the in-context teachers is least at their arithmetic mean (forward) and at "
    "their normalised geometric mean (reverse); the student's own is as much above it as it is "
    "away from that optimum. A student without context can do no better than the least."
)
RIGHT = (
    "Probability of the right answer in %, under the teacher with the prompt's own context, under "
    "both optima (predicted) and under the student (measured); then how often the likeliest token "
    "is right."
)


def sections(frame: pd.DataFrame) -> list[Section]:
    """`optima` as tables, two a task; none where it is empty."""
    return [
        section for task, rows in frame.groupby("task", sort=False)
        for section in _sections(str(task), rows)
    ]  # fmt: skip


def conclusions(frame: pd.DataFrame) -> list[str]:
    """One line a task: how often the optima's likeliest token is right, and the students'."""
    found = []
    for task, rows in frame.groupby("task", sort=False):
        first = rows.iloc[0]
        teacher, forward, reverse = (
            f"{100 * first[f'{who}_greedy'].value:.0f}" for who in ("teacher", "forward", "reverse")
        )
        got = sorted(
            round(100 * row["student_greedy"].value)
            for row in rows.to_dict("records")
            if row["method"] != "base"
        )
        students = f"; the trained students' in {got[0]} to {got[-1]} %" if got else ""
        found.append(
            f"{task} ({_many(first['contexts'])}): the likeliest token is right in {teacher} % "
            f"with the context; at best in {forward} % (forward KL) and {reverse} % (reverse KL) "
            f"without it{students}."
        )
    return found


def _many(contexts: float) -> str:
    return "one context" if contexts == 1 else f"{contexts:.0f} contexts"


def _sections(task: str, rows: pd.DataFrame) -> list[Section]:
    many = _many(rows["contexts"].max())
    records = rows.to_dict("records")
    distances = tuple((*_head(row), *(row[name].text() for name in LOSSES)) for row in records)
    answers = tuple(
        (*_head(row), *(row[f"{who}_{what}"] for what in ("right", "greedy") for who in WHO))
        for row in records
    )
    return [
        Section(f"{task}: distance from the optimum over {many}", DISTANCES,
                (Group("", distances),), (IN_NATS,)),
        Section(f"{task}: the right answer, predicted and measured", ANSWERS,
                (Group("", answers),), (RIGHT,)),
    ]  # fmt: skip


def _head(row: dict[str, Any]) -> tuple[Value, Value]:
    rate = row["learning_rate"]
    return (f"{row['method']}, {step_words(row['step'])}", "" if pd.isna(rate) else f"{rate:g}")
