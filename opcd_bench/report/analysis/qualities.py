"""Accuracy against how much of the context is false: in-context teacher beside its students."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from opcd_bench.report.analysis import along
from opcd_bench.report.analysis.contexts import StoredContexts

QUALITIES = ["task", "false_share", "method", "control", "learning_rate", "seeds", "accuracy"]
TEACHER = "in-context teacher"


def shares(told: Mapping[str, StoredContexts]) -> dict[str, float]:
    """Task -> the share of its one context that is false, of tasks whose context declares it.

    Tasks of one share are left out, since nothing says which of them belongs to the others. Empty
    where fewer than `along.LEAST` are left.
    """
    found = {
        task: share
        for task, one in told.items()
        if len(one.contexts.pool) == 1 and (share := one.contexts.pool[0].false_share) is not None
    }
    alone = along.alone(found)
    return alone if len(alone) >= along.LEAST else {}


def qualities(table: pd.DataFrame, told: Mapping[str, StoredContexts]) -> pd.DataFrame:
    """One row a (method, task): columns `QUALITIES`, the in-context teacher (`TEACHER`) first.

    ``accuracy``: on test, of the student at the rate where its method is compared, and of the base
    with the task's own context; an Interval. Then by the order of ``table``, and by share.
    ``table``: `headline.headline`.
    """
    known = shares(told)
    rows: list[dict[str, Any]] = []
    for row in table[table["headline"].astype(bool) & (table["seeds"] > 0)].to_dict("records"):
        if (share := known.get(row["task"])) is None:
            continue
        about = {"task": row["task"], "false_share": share}
        usual = row.get("measured against", "ceiling") == "ceiling"
        if usual and not math.isnan(row["ceiling"].value):
            rows.append({**about, "method": TEACHER, "control": False, "learning_rate": math.nan,
                         "seeds": 1, "accuracy": row["ceiling"]})  # fmt: skip
        mine = {name: row[name] for name in ("method", "learning_rate", "seeds")}
        control = row.get("control") is True
        rows.append({**about, **mine, "control": control, "accuracy": row["plain"]})
    frame = pd.DataFrame(rows, columns=QUALITIES).astype({"control": bool})
    frame = frame.drop_duplicates(["task", "method"])
    teacher = frame["method"] == TEACHER
    return along.ordered(pd.concat([frame[teacher], frame[~teacher]]), "false_share")


def changes(frame: pd.DataFrame) -> pd.DataFrame:
    """`along.changes` of `qualities` from the least false share to the largest, no controls."""
    return along.changes(frame[~frame["control"]], "false_share", "accuracy")
