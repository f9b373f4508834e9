"""Stored results as data frames; the only part of the report that reads files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from opcd_bench.errors import StoreError
from opcd_bench.jsonl import read_object, read_rows
from opcd_bench.run_reader import CONFIG, RunReader
from opcd_bench.suite_dir import SHARED, SUITE, is_suite

CELL = ["task", "method", "learning_rate", "seed"]
STATES = {"sealed": "done", "failed": "failed", "unfinished": "not finished"}


@dataclass(frozen=True)
class Results:
    """Everything that a report is made of.

    ``cells``: one row a run (task, method, learning_rate, seed, state, reason, settings,
    chosen_step, counters, run). ``evals``: evals.jsonl of all runs with the cell's columns before
    them. ``samples``: final scores, one row a (cell, measured task, example, sample) with columns
    ``measured``, ``split``, ``score``, ``outcome``. ``anchors``: the same for base and ceiling on
    test and for base retention, with column ``reading``.
    """

    root: Path
    suite: Mapping[str, Any]
    cells: pd.DataFrame
    evals: pd.DataFrame
    samples: pd.DataFrame
    anchors: pd.DataFrame


def load(root: Path) -> Results:
    """Results of ``results/<suite>``; StoreError where there is no suite."""
    if not is_suite(root):
        raise StoreError(f"{root}: no suite is stored here (no {SUITE}); run one: opcd-bench run")
    cells: list[dict[str, Any]] = []
    evals: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    shared: set[tuple[str, str, str]] = set()
    for config_file in sorted(root.glob(f"*/{CONFIG}")):
        reader = RunReader(config_file.parent)
        config = reader.config
        cell = {
            "task": config["task"]["name"],
            "method": config["method"]["name"],
            "learning_rate": config["learning_rate"],
            "seed": config["seed"],
        }
        run = {"run": reader.path.name}
        done = reader.sealed
        failure = None if done else reader.failure()
        summary = reader.summary if done else {}
        cells.append(
            {
                **cell,
                **run,
                "state": STATES[reader.state],
                "reason": (failure or {}).get("reason", ""),
                "settings": _settings(config),
                **{key: value for key, value in summary.items() if key != "anchors"},
            }
        )
        for row in reader.read("evals"):
            evals.append({**cell, **run, "measured": row.pop("task"), **row})
        for name in reader.sample_names() if done else []:
            if not name.startswith("scores-"):
                retention = name.startswith("retention-")
                rows = reader.read(f"samples/{name}")
                samples.extend({**cell, **_sample(row, retention)} for row in rows)
        shared |= {(a["reading"], a["shared"], a["name"]) for a in summary.get("anchors", [])}
    anchors = [
        {"reading": reading, **_sample(row, folder.startswith("retention-"))}
        for reading, folder, name in sorted(shared)
        for row in read_rows(root / SHARED / folder / f"{name}.jsonl")[1:]
    ]
    return Results(
        root=root,
        suite=read_object(root / SUITE),
        cells=pd.DataFrame(cells),
        evals=pd.DataFrame(evals),
        samples=pd.DataFrame(samples),
        anchors=pd.DataFrame(anchors),
    )


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for the cells of one task: all but method, rate and seed."""
    suite = {f"suite.{key}": value for key, value in config.get("suite", {}).items()}
    return {**suite, **{f"task.{key}": value for key, value in config["task"].items()}}


def _sample(row: Mapping[str, Any], retention: bool) -> dict[str, Any]:
    """The columns of a stored sample that statistics need."""
    return {
        "measured": row["task"],
        "split": "retention" if retention else row["split"],
        "example_id": row["example_id"],
        "sample": row.get("sample", 0),
        "score": row["score"],
        "outcome": row["outcome"],
    }
