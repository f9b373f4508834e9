"""Doses and damage as a table a task and learning rate, and what they come to in one line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from opcd_bench.report.analysis.doses import FEWEST, GROUP
from opcd_bench.report.tables import markup
from opcd_bench.report.tables.layout import Group, Section, Value
from opcd_bench.report.tables.shown_methods import label

HEADINGS = ("method", "seeds", "step", "dose", "spared", "damage (points)")
SURE = 0.05
"""From which p on damage is said to go with the dose."""
NOTE = (
    "dose: the sum over the optimiser steps of leak / signal: the size of the gradient of the "
    "student's mass on the support, by that of the gradient that a stop-gradient keeps (L1 norms, "
    "step means). spared: what it would have been for a loss whose gradient has no such part. "
    "damage: accuracy of the full reverse KL (opcd_full) minus the method's, on test, paired by "
    "example, seed and step, with 95 % intervals."
)


def by_task(frame: pd.DataFrame) -> Mapping[str, list[Section]]:
    """Task -> `doses` as tables, one a learning rate; the largest dose first."""
    found: dict[str, list[Section]] = {}
    for (task, rate), rows in frame.groupby(GROUP, sort=False):
        whole = rows[rows["seed"].isna()].sort_values(
            ["takes", "dose", "spared"], ascending=False, kind="stable"
        )
        lines = tuple(map(_line, whole.to_dict("records")))
        title = f"{task}: dose and damage at learning rate {rate:g}"
        found.setdefault(task, []).append(Section(title, HEADINGS, (Group("", lines),), (NOTE,)))
    return found


def _line(row: Mapping[str, Any]) -> tuple[Value, ...]:
    seeds = "one seed" if len(row["seeds"]) == 1 else str(len(row["seeds"]))
    dose, spared = (f"{row[name]:.3g}" for name in ("dose", "spared"))
    amounts = (dose, "") if row["takes"] else ("", spared)
    return (str(row["method"]), seeds, str(row["step"]), *amounts, row["damage"])


def conclusions(frame: pd.DataFrame, response: pd.DataFrame) -> list[str]:
    """One line a task and learning rate; which these are is said where there are several."""
    found = []
    for row in response.to_dict("records"):
        at = {"task": str(row["task"]), "learning_rate": f"{row['learning_rate']:g}"}
        named = [words for name, words in at.items() if response[name].nunique() > 1]
        here = (frame["task"] == row["task"]) & (frame["learning_rate"] == row["learning_rate"])
        said = f"{_response(row)} {_spared(frame[here & frame['seed'].isna()])}".strip()
        found.append(f"{', '.join(named)}: {said}" if named else said)
    return found


def files(frame: pd.DataFrame, response: pd.DataFrame) -> dict[str, str]:
    """doses.md: the conclusions, then the tables; nothing where there are no doses."""
    if frame.empty:
        return {}
    said = [line.translate(markup.MARKDOWN) for line in conclusions(frame, response)]
    tables = [section for of_task in by_task(frame).values() for section in of_task]
    return {"doses.md": "\n\n".join([*said, *map(markup.section_markdown, tables)]) + "\n"}


def _response(row: Mapping[str, Any]) -> str:
    correlation, count = row["correlation"], row["methods"]
    if math.isnan(correlation.value):
        why = (
            f"too few (at least {FEWEST} can show any)"
            if count < FEWEST
            else "which are all alike in one of the two"
        )
        return f"No rank correlation of dose and damage over the {count} methods that leak, {why}."
    says = "Damage is not shown to go with the dose"
    if row["p"] <= SURE and correlation.value > 0 and not correlation.low <= 0:
        says = "Damage rises with the dose"
    elif row["p"] <= SURE and correlation.value < 0 and not correlation.high >= 0:
        says = "Damage falls as the dose rises"
    how = f"{says}: rank correlation {correlation.value:+.2f} over the {count} methods that leak"
    how += f" (p {row['p']:.2g} by permuting them)"
    if math.isnan(correlation.low):
        return f"{how}."
    return f"{how}, [{correlation.low:+.2f}, {correlation.high:+.2f}] over the test examples."


def _spared(whole: pd.DataFrame) -> str:
    """The largest damage among the methods whose losses take no dose."""
    spared = whole[~whole["takes"]]
    if spared.empty:
        return ""
    worst = max(spared.to_dict("records"), key=lambda row: float(row["damage"].value))
    of, damage = label(worst["method"]), worst["damage"].points()
    if len(spared) == 1:
        return f"{of}, whose loss is spared the leak, has a damage of {damage} points."
    return (
        f"Of the {len(spared)} methods whose losses are spared the leak, the largest damage is "
        f"{damage} points ({of})."
    )
