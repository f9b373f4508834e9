"""Rescue against gain: what teachers make of wrong beginnings, and what is learnt from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from opcd_bench.envs import readings

RESCUES = ["task", "method", "teacher", "learning_rate", "seeds", "rescue", "gain"]
SHARE = 0.25
"""Of the base's tokens, after which the teacher goes on."""
LEAST = 2
"""Teachers of a task that can be compared."""

Descriptions = Mapping[tuple[str, str], Mapping[str, Any]]
"""(task, method) -> the method as its runs describe it."""


def rescues(probe: pd.DataFrame, gains: pd.DataFrame, described: Descriptions) -> pd.DataFrame:
    """One row a method that is trained on its own responses alone: columns `RESCUES`.

    ``rescue``: of the base's wrong responses, how many the method's ``teacher`` turns right from a
    quarter of their tokens, less how many the base itself does; ``gain``: on test over the base.
    Empty of a task where fewer than `LEAST` teachers have both. ``probe``: `prefixes.prefixes`;
    ``gains``: `groups.groups`.
    """
    base = probe[(probe["method"] == "base") & (probe["share"] == SHARE)]
    rescued = {(row.task, row.teacher): row.rescue for row in base.itertuples()}
    rows: list[dict[str, Any]] = []
    for row in gains[(gains["kind"] == "gain") & ~gains["control"]].to_dict("records"):
        description = described.get((row["task"], row["method"]))
        teacher = None if description is None else learnt_from(description)
        rescue = rescued.get((row["task"], teacher))
        if rescue is None or math.isnan(rescue.value) or math.isnan(row["value"].value):
            continue
        about = {name: row[name] for name in ("task", "method", "learning_rate", "seeds")}
        rows.append({**about, "teacher": teacher, "rescue": rescue, "gain": row["value"]})
    frame = pd.DataFrame(rows, columns=RESCUES)
    several = frame.groupby("task")["teacher"].nunique() >= LEAST
    return frame[frame["task"].map(several).astype(bool)].reset_index(drop=True)


def learnt_from(description: Mapping[str, Any]) -> str | None:
    """The one teacher that a method learns from on the student's own responses alone, as probes
    call it (`readings.teacher_name`).

    None where another writes, where rewards are learnt from, where the teacher is not read or
    changes with the student, and where stages differ.
    """
    stages = [description, *([description["begins"]] if "begins" in description else [])]
    names = {_teacher(stage) for stage in stages}
    return names.pop() if len(names) == 1 else None


def _teacher(stage: Mapping[str, Any]) -> str | None:
    writer, loss, teacher = (stage[key] for key in ("writer", "loss", "teacher"))
    otherwise = (
        writer["kind"] != "student",
        loss.get("teacher_needs") == "none",
        bool(loss.get("rewarded")),
        teacher["weights"] in ("ema", "live"),
        teacher["rows"] == "shuffled",
    )
    return None if any(otherwise) else readings.teacher_name(teacher)
