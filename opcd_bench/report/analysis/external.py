"""Results of stock lm_eval runs, kept beside a suite's own and shown as external rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from opcd_bench.errors import ConfigError, StoreError
from opcd_bench.report.analysis import statistics
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.store.jsonl import object_text, read_object
from opcd_bench.store.suite_dir import EXTERNAL, SuiteDir, is_suite
from opcd_bench.store.suite_list import SUITE

FOLDER = EXTERNAL
COLUMNS = [
    "name", "model", "lm_eval", "task", "task_version", "task_hash", "num_fewshot",
    "chat_template", "metric", "filter", "primary", "share", "value", "n", "interval from",
]  # fmt: skip
INSTRUCTIONS = ["name", "task", "instruction", "followed", "n"]
PRIMARY = ("prompt_level_strict_acc", "exact_match", "accuracy", "acc")
"""The first of these that a task has is its main metric; else its first metric."""
TITLE = "External: lm_eval"
BY_INSTRUCTION = "External: lm_eval, instructions followed (strict) by type"
CAPTION = (
    "Measured by a stock lm_eval, not by this suite. The protocol differs from that of the "
    "measured rows, so small differences to them mean nothing. Shares in %, other metrics as "
    "they are. Intervals from sample logs are bootstrapped as above; those from a standard error "
    "are ± 1.96 standard errors. Shares near 0 and 100 % have Wilson's interval."
)
Z = 1.959963984540054


def store(suite: Path, name: str, record: Mapping[str, Any]) -> tuple[Path, bool]:
    """Put a record of `lm_eval_files.read` at ``<suite>/external/<name>.json``, atomically.

    Returns the file, and whether one of that name was replaced. StoreError where ``suite`` is no
    suite, ConfigError for a name that cannot be a file's.
    """
    if not is_suite(suite):
        raise StoreError(
            f"{suite}: no suite is stored here (no {SUITE}); give one, such as results/quick"
        )
    try:
        return SuiteDir(suite).put_external(name, object_text(record).encode())
    except ValueError as error:
        raise ConfigError(f"--name: {error}") from None


def frame(root: Path) -> pd.DataFrame:
    """One row a (name, task, metric, filter) of a suite's external results: columns `COLUMNS`.

    ``value`` is an Interval; ``share`` says whether it is a share that may be shown in %;
    ``interval from`` is "samples", "standard error" or "". Empty where nothing was imported.
    """
    rows = [
        _measured(name, record, measure)
        for name, record in _records(root)
        for measure in record["measures"]
    ]
    for row in rows:
        beside = [r["metric"] for r in rows if (r["name"], r["task"]) == (row["name"], row["task"])]
        main = next((metric for metric in PRIMARY if metric in beside), beside[0])
        row["primary"] = row["metric"] == main
    return pd.DataFrame(rows, columns=COLUMNS)


def shown(external: pd.DataFrame) -> pd.DataFrame:
    """The rows of `frame` as they are printed, a task's main metric first.

    Only intervals of shares stay Intervals.
    """
    external = external.assign(secondary=~external["primary"].astype(bool))
    external = external.sort_values(["name", "task", "secondary"], kind="stable")
    return pd.DataFrame(
        {
            **{name: external[name] for name in ("name", "task", "metric")},
            "value": [
                row["value"] if row["share"] else _plain(row["value"])
                for row in external.to_dict("records")
            ],
            **{name: external[name] for name in ("n", "interval from", "model", "lm_eval")},
            "task version": external["task_version"],
            "task hash": [str(key)[:10] if key else "" for key in external["task_hash"]],
        }
    )


def _plain(value: Interval) -> str:
    """An interval of what is no share, in its own unit."""
    if math.isnan(value.low):
        return f"{value.value:.4g}"
    return f"{value.value:.4g} [{value.low:.4g}, {value.high:.4g}]"


def instructions(root: Path) -> pd.DataFrame:
    """How often each instruction type was followed (strict): columns `INSTRUCTIONS`.

    ``followed`` is an Interval over the prompts that hold the instruction.
    """
    rows = []
    for name, record in _records(root):
        held = pd.DataFrame(
            [
                {
                    "task": sample["task"],
                    "instruction": instruction,
                    "example_id": sample["example_id"],
                    "score": float(followed),
                }
                for sample in record["samples"]
                for instruction, followed in zip(
                    sample.get("instruction_ids", []), sample.get("followed", []), strict=True
                )
            ],
            columns=["task", "instruction", "example_id", "score"],
        )
        for (task, instruction), one in held.groupby(["task", "instruction"], sort=True):
            followed = statistics.mean(one)
            rows.append(
                {"name": name, "task": task, "instruction": instruction, "followed": followed,
                 "n": followed.n}
            )  # fmt: skip
    return pd.DataFrame(rows, columns=INSTRUCTIONS)


def _records(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((root / FOLDER).glob("*.json")):
        yield path.stem, read_object(path)


def _measured(name: str, record: Mapping[str, Any], measure: Mapping[str, Any]) -> dict[str, Any]:
    value, basis = _interval(measure, _values(record, measure))
    kept = ("lm_eval", "task", "task_version", "task_hash", "num_fewshot", "chat_template",
            "metric", "filter")  # fmt: skip
    return {
        "name": name,
        "model": record["model"],
        **{key: measure[key] for key in kept},
        "share": _is_share(measure, value.value),
        "value": value,
        "n": value.n,
        "interval from": basis,
    }


def _values(record: Mapping[str, Any], measure: Mapping[str, Any]) -> list[list[float]]:
    """A measure's scores, those of a document together; empty where no log has them."""
    logged = [
        sample
        for sample in record["samples"]
        if (sample["task"], sample["filter"]) == (measure["task"], measure["filter"])
    ]
    if measure["metric"] == "inst_level_strict_acc":
        return [list(map(float, sample["followed"])) for sample in logged if "followed" in sample]
    metric = measure["metric"]
    return [[sample["values"][metric]] for sample in logged if metric in sample["values"]]


def _interval(measure: Mapping[str, Any], values: list[list[float]]) -> tuple[Interval, str]:
    """The value with its interval, and what that is from; of a share as `statistics.mean` has it.

    That is in [0, 1], and near these ends no narrower than Wilson's.
    """
    found, basis = _plain_interval(measure, values)
    if not _is_share(measure, found.value) or found.n < 2 or not basis:
        return found, basis
    found = statistics.near_the_ends(found)
    return replace(found, low=max(found.low, 0.0), high=min(found.high, 1.0)), basis


def _is_share(measure: Mapping[str, Any], value: float) -> bool:
    return bool(measure["higher_is_better"]) and 0 <= value <= 1


def _plain_interval(measure: Mapping[str, Any], values: list[list[float]]) -> tuple[Interval, str]:
    n = int(measure["n"] or len(values))
    stored, error = float(measure["value"]), measure["stderr"]
    if values:
        sums, counts = np.array([[sum(one), len(one)] for one in values], dtype=float).T
        found = statistics.interval_of(_ratio, sums, counts)
        # A metric that is no mean over its documents does not average to the stored value.
        if math.isclose(found.value, stored, rel_tol=1e-6, abs_tol=1e-9):
            known = not math.isnan(found.low) or _is_share(measure, stored)
            return found, "samples" if known and found.n > 1 else ""
    if error is None:
        return Interval(stored, math.nan, math.nan, n), ""
    return Interval(stored, stored - Z * error, stored + Z * error, n), "standard error"


def _ratio(sums: statistics.Floats, counts: statistics.Floats, axis: int = -1) -> statistics.Floats:
    share: statistics.Floats = np.sum(sums, axis=axis) / np.sum(counts, axis=axis)
    return share
