"""The prefix probe: what teachers make of a student's own tokens, with paired intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from opcd_bench.report.analysis import statistics
from opcd_bench.report.analysis.clusters import clustered
from opcd_bench.report.analysis.pairing import CLUSTER
from opcd_bench.report.analysis.probed_step import steps_of
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.store.suite_dir import PREFIX_PROBE, SHARED, SharedDir, SuiteDir

STUDENT, OWN = "student", "own"
NOTHING = Interval(float("nan"), float("nan"), float("nan"), 0)
WRONG = ("wrong", "unparsable", "truncated")
"""Outcomes of a first response that a writer may still turn right."""
KEYS = ["task", "method", "learning_rate", "step"]
ROWS = [
    *KEYS, "seed", "teacher", "prefixes", "share", "example_id", "sample", "score", "first_outcome",
]  # fmt: skip
COLUMNS = [
    *KEYS, "teacher", "share", "seeds", "accuracy", "own", "mismatch", "wrong", "turned",
    "own_turned", "luck", "rescue",
]  # fmt: skip


def stored(root: Path) -> pd.DataFrame:
    """Every continuation of a suite's probes (columns `ROWS`), of each task its last protocol.

    ``teacher`` is who goes on (the student itself is `STUDENT`), ``prefixes`` whose tokens:
    the student's or the teacher's `OWN`; ``step``: `probed_step.steps_of`.
    """
    suite = SuiteDir(root).read()
    listed = suite.get(PREFIX_PROBE, [])
    last = {part["task"]: part["protocol"] for part in listed}
    parts = [part for part in listed if part["protocol"] == last[part["task"]]]
    steps = steps_of(root, [part["student"] for part in parts])
    rows = [row for part, step in zip(parts, steps, strict=True) for row in _rows(root, part, step)]
    return clustered(pd.DataFrame(rows, columns=ROWS).astype({"score": float}), suite, "task")


def _rows(root: Path, part: Mapping[str, Any], step: int | str) -> list[dict[str, Any]]:
    student = part["student"]
    about = {
        **{key: student[key] for key in KEYS},
        "step": step,
        "seed": student["seed"],
        "teacher": part["writer"],
        "prefixes": part["prefixes"],
        "share": part["share"],
    }
    found = SharedDir(root / SHARED / part["shared"]).get(part["name"])
    kept = ("example_id", "sample", "score", "first_outcome")
    return [{**about, **{key: row[key] for key in kept}} for row in found]


def prefixes(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a (student, teacher, share of the student's tokens): columns `COLUMNS`.

    Intervals, paired and clustered by example (and seed): ``accuracy`` of the teacher from the
    student's tokens, ``own`` from as much of a response of its own, ``mismatch`` their difference.
    Of the responses that the student got ``wrong`` (their share): how many the teacher ``turned``
    right, how many the student itself does from the same tokens (``luck``), and the difference,
    ``rescue`` (`statistics.among`). ``own_turned``: how many the teacher turns right of those that
    it got wrong itself, from as much of its own; NaN of the student, and from no token.
    """
    found = []
    # The base has no learning rate, and its rows count all the same.
    for key, student in rows.groupby(KEYS, sort=False, dropna=False):
        itself = student[student["teacher"] == STUDENT]
        for teacher in dict.fromkeys(student["teacher"]):
            for share in sorted(set(student["share"])):
                mine = student[(student["teacher"] == teacher) & (student["share"] == share)]
                given = mine[mine["prefixes"] == STUDENT]
                own = mine[mine["prefixes"] == OWN] if teacher != STUDENT else given
                if given.empty or own.empty:
                    continue  # a probe that was interrupted
                about = {**dict(zip(KEYS, key, strict=True)), "teacher": teacher, "share": share}
                found.append({**about, **_row(given, own, itself[itself["share"] == share])})
    return pd.DataFrame(found, columns=COLUMNS)


def lost(rows: pd.DataFrame, teacher: str) -> pd.DataFrame:
    """Accuracy of a teacher from a student's tokens less from its own, by example and seed.

    Columns ``example_id``, ``seed``, ``score``, of those that have both.
    """
    mine = rows[rows["teacher"] == teacher]
    means = mine.groupby(["prefixes", *_keys(mine)], sort=True)["score"].mean()
    if not {STUDENT, OWN} <= set(mine["prefixes"]):
        return pd.DataFrame(columns=["example_id", "seed", "score"])
    return (means[STUDENT] - means[OWN]).dropna().rename("score").reset_index()


def _row(given: pd.DataFrame, own: pd.DataFrame, itself: pd.DataFrame) -> dict[str, Any]:
    wrong, turned, luck = _wrong(given), _right_after(given), _right_after(itself)
    keys = _keys(given)
    begun = own is not given and bool((own["share"] > 0).all())
    rescued = turned.set_index(keys)["score"] - luck.set_index(keys)["score"]
    return {
        "seeds": given["seed"].nunique(),
        "accuracy": statistics.mean(given),
        "own": statistics.mean(own),
        "mismatch": statistics.difference(given, own),
        "wrong": statistics.mean(wrong),
        "turned": statistics.among(turned, wrong),
        "own_turned": statistics.among(_right_after(own), _wrong(own)) if begun else NOTHING,
        "luck": statistics.among(luck, _wrong(itself)),
        "rescue": statistics.among(rescued.dropna().reset_index(), wrong, (-1.0, 1.0)),
    }


def _wrong(rows: pd.DataFrame) -> pd.DataFrame:
    """1 of each first response that is wrong, 0 of the others."""
    first = rows[rows["sample"] == 0]
    return first.assign(score=first["first_outcome"].isin(WRONG) * 1.0)


def _right_after(rows: pd.DataFrame) -> pd.DataFrame:
    """By example and seed, the share of continuations that are right where the first was wrong."""
    after = rows.assign(score=rows["score"] * rows["first_outcome"].isin(WRONG))
    return after.groupby(_keys(after), sort=True)["score"].mean().reset_index()


def _keys(rows: pd.DataFrame) -> list[str]:
    """What names one response of a student: its seed and example, and the example's cluster."""
    return ["seed", "example_id", *([CLUSTER] if CLUSTER in rows else [])]
