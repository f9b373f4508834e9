"""Where the numbers come from: the runs, what they were run with, and what is missing."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd


def missing(rows: pd.DataFrame) -> list[dict[str, str]]:
    """Of each task, method and reason the rates that are missing."""
    return [
        {
            **{"task": str(task), "method": str(method), "state": str(state)},
            "rates": ", ".join(f"{rate:g}" for rate in sorted(part["learning_rate"])),
        }
        for (task, method, state), part in rows.groupby(["task", "method", "state"], sort=True)
    ]


def of_cells(cells: pd.DataFrame) -> dict[str, Any]:
    """The runs, and what they were run with, each distinct text once.

    Keys: ``runs`` (rows with the number of their settings and environment) and ``folds`` (kind,
    title, [(label, JSON)]) for methods, settings and environments.
    """
    settings: dict[str, str] = {}
    environments: dict[str, str] = {}
    methods: dict[str, str] = {}
    runs = []
    for row in cells.to_dict("records"):
        methods.setdefault(row["method"], _json(row["description"]))
        runs.append(
            {
                "run": row["run"],
                "state": f"{row['state']}: {row['reason']}" if row["reason"] else row["state"],
                "step": _number(row.get("chosen_step")),
                "seconds": _number(row.get("seconds")),
                "memory": _number(row.get("peak_memory_bytes"), 1e6),
                "settings": _numbered(settings, row["settings"]),
                "environment": _numbered(environments, row["environment"]),
            }
        )
    folds = [
        ("method", "Methods", sorted(methods.items())),
        ("settings", "Settings", [(label, text) for text, label in settings.items()]),
        ("environment", "Environments", [(label, text) for text, label in environments.items()]),
    ]
    return {"runs": runs, "folds": folds}


def _numbered(seen: dict[str, str], value: Any) -> str:
    text = _json(value)
    return seen.setdefault(text, str(len(seen) + 1))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)


def _number(value: float | None, unit: float = 1.0) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value / unit:,.0f}"
