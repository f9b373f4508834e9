"""Stored results as data frames; the only part of the report that reads files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from opcd_bench.errors import StoreError
from opcd_bench.jsonl import read_rows

CELL = ["task", "method", "learning_rate", "seed"]


@dataclass(frozen=True)
class Results:
    """Everything that a report is made of.

    ``cells``: one row a run (task, method, learning_rate, seed, state, reason, chosen_step,
    counters, path). ``evals``: evals.jsonl of all runs with the cell's columns before them.
    ``samples``: final scores, one row a (cell, measured task, example, sample) with columns
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
    if not (root / "suite.json").is_file():
        raise StoreError(
            f"{root}: no suite is stored here (no suite.json); run one: opcd-bench run"
        )
    suite = json.loads((root / "suite.json").read_text(encoding="utf-8"))
    cells, evals, samples, shared = [], [], [], {}
    for config_file in sorted(root.glob("*/config.json")):
        path = config_file.parent
        config = json.loads(config_file.read_text(encoding="utf-8"))
        cell = {
            "task": config["task"]["name"],
            "method": config["method"]["name"],
            "learning_rate": config["learning_rate"],
            "seed": config["seed"],
        }
        done = _json(path / "DONE")
        failed = _json(path / "FAILED.json")
        summary = (done or {}).get("summary", {})
        state = "done" if done else "failed" if failed else "not finished"
        cells.append(
            {
                **cell,
                "state": state,
                "reason": (failed or {}).get("reason", ""),
                "run": path.name,
                **{key: value for key, value in summary.items() if key != "anchors"},
            }
        )
        evals.extend({**cell, "run": path.name, "measured": r.pop("task"), **r}
                     for r in read_rows(path / "evals.jsonl"))  # fmt: skip
        for file in sorted((path / "samples").glob("*.jsonl")) if done else []:
            if not file.name.startswith("scores-"):
                samples.extend({**cell, **_sample(row, file)} for row in read_rows(file))
        shared.update(
            {(a["reading"], a["shared"], a["name"]): a for a in summary.get("anchors", [])}
        )
    anchors = [
        {"reading": reading, **_sample(row, root / "shared" / folder / name)}
        for reading, folder, name in shared
        for row in read_rows(root / "shared" / folder / f"{name}.jsonl")[1:]
    ]
    return Results(
        root=root,
        suite=suite,
        cells=pd.DataFrame(cells),
        evals=pd.DataFrame(evals),
        samples=pd.DataFrame(samples),
        anchors=pd.DataFrame(anchors),
    )


def _json(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _sample(row: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The columns of a stored sample that statistics need."""
    stem = file.name.removesuffix(".jsonl")
    retention = stem.startswith("retention-") or "retention-" in file.parent.name
    return {
        "measured": row["task"],
        "split": "retention" if retention else row["split"],
        "example_id": row["example_id"],
        "sample": row.get("sample", 0),
        "score": row["score"],
        "outcome": row["outcome"],
    }
