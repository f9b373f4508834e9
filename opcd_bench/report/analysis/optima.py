"""The optimum probe: students beside the best that one without context can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from opcd_bench.report.analysis import statistics
from opcd_bench.report.analysis.clusters import clustered
from opcd_bench.report.analysis.probed_step import steps_of
from opcd_bench.store.suite_dir import OPTIMUM_PROBE, SHARED, SharedDir, SuiteDir

KEYS = ["task", "method", "learning_rate", "step"]
LOSSES = ["least_forward", "forward_excess", "least_reverse", "reverse_excess"]
"""In nats: the least value of each loss, and by how much the student's is above it."""
WHO = ("teacher", "forward", "reverse", "student")
SHARES = [f"{who}_{what}" for what in ("right", "greedy") for who in WHO]
ROWS = [*KEYS, "seed", "example_id", "contexts", *LOSSES, *SHARES]
COLUMNS = [*KEYS, "seeds", "contexts", *LOSSES, *SHARES]


def stored(root: Path) -> pd.DataFrame:
    """Every prompt of a suite's probes (columns `ROWS`), of each task its last protocol."""
    suite = SuiteDir(root).read()
    listed = suite.get(OPTIMUM_PROBE, [])
    last = {part["task"]: part["protocol"] for part in listed}
    parts = [part for part in listed if part["protocol"] == last[part["task"]]]
    rows: list[dict[str, Any]] = []
    for part, step in zip(parts, steps_of(root, [part["student"] for part in parts]), strict=True):
        about = {**{key: part["student"][key] for key in (*KEYS, "seed")}, "step": step}
        found = SharedDir(root / SHARED / part["shared"]).get(part["name"])
        rows += [{**about, **row} for row in found]
    return clustered(pd.DataFrame(rows, columns=ROWS), suite, "task")


def optima(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a student: columns `COLUMNS`, intervals over examples (and seeds).

    ``…_right``: probability of the right answer, ``…_greedy``: how often it is the likeliest token,
    under the in-context teacher, the optimum of forward and of reverse KL, and the student.
    """
    found = []
    for key, student in rows.groupby(KEYS, sort=False, dropna=False):
        row = {**dict(zip(KEYS, key, strict=True)), "seeds": student["seed"].nunique()}
        row["contexts"] = int(student["contexts"].max())
        for name in (*LOSSES, *SHARES):
            scored = student.assign(score=student[name].astype(float))
            row[name] = statistics.mean(scored, shares=name in SHARES)
        found.append(row)
    return pd.DataFrame(found, columns=COLUMNS)
