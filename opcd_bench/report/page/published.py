"""Numbers that papers printed, as rows of their own beside suites of the same task and model."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import pandas as pd

COLUMNS = [
    "task", "model", "setting", "method", "accuracy", "accuracy spread", "ifeval",
    "ifeval spread", "source",
]  # fmt: skip
TITLE = "Published by others, not measured here"
CAPTION = (
    "In % of the test items, as printed in the paper, with what it prints after ±. There, "
    "checkpoints were chosen on test, and prompts, contexts and decoding are the paper's own."
)
METHODS = {
    "base": "base",
    "in_context": "in-context teacher",
    "context_distillation": "context distillation (nearest here: forward_kl)",
    "opcd": "OPCD",
    "opcd_live_teacher": "OPCD with a live teacher",
}
"""The paper's names of the columns of its tables."""


def rows(tasks: Iterable[str], model: str) -> pd.DataFrame:
    """The published rows of a suite's tasks with its own model: columns `COLUMNS`.

    Accuracies and spreads in %, as printed; NaN where the paper prints none. Empty for a suite
    whose tasks or model are not a paper's: a number of another model is no reference.
    """
    wanted = set(tasks)
    found = [
        row
        for setting in settings()
        if setting["task"] in wanted and setting["model"] == model
        for row in _rows(setting)
    ]
    return pd.DataFrame(found, columns=COLUMNS)


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `rows` as they are printed: text, with ± where the paper has it."""
    return pd.DataFrame(
        {
            **{name: rows[name] for name in ("task", "setting", "method")},
            "accuracy": _printed(rows, "accuracy"),
            "IFEval": _printed(rows, "ifeval"),
            "model": rows["model"],
            "source": rows["source"],
        }
    )


def _printed(rows: pd.DataFrame, name: str) -> list[str]:
    return [
        "" if math.isnan(value) else f"{value:.1f}" + ("" if math.isnan(s) else f" ± {s:.1f}")
        for value, s in zip(rows[name], rows[f"{name} spread"], strict=True)
    ]


def settings() -> list[dict[str, Any]]:
    """The tables of published.toml, as they are written."""
    text = resources.files("opcd_bench.report.page").joinpath("published.toml").read_text("utf-8")
    tables: list[dict[str, Any]] = tomllib.loads(text)["setting"]
    return tables


def _rows(setting: Mapping[str, Any]) -> list[dict[str, Any]]:
    made = []
    for key, label in METHODS.items():
        if key not in setting["accuracy"]:
            continue
        accuracy, spread = _cell(setting["accuracy"][key])
        ifeval, ifeval_spread = _cell(setting.get("ifeval", {}).get(key, math.nan))
        made.append(
            {
                **{name: setting[name] for name in ("task", "model", "setting", "source")},
                "method": label,
                "accuracy": accuracy,
                "accuracy spread": spread,
                "ifeval": ifeval,
                "ifeval spread": ifeval_spread,
            }
        )
    return made


def _cell(value: float | list[float]) -> tuple[float, float]:
    """A printed value and its spread, NaN for what is not printed."""
    if isinstance(value, list):
        return float(value[0]), float(value[1])
    return float(value), math.nan
