"""The comparison as data frames: what each method gained, and what it forgot."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from opcd_bench.errors import StoreError
from opcd_bench.report import statistics
from opcd_bench.report.load import Results, load


def assert_one_protocol(results: Results) -> None:
    """Raise StoreError where numbers of one table were measured under different protocols."""
    evals = results.evals
    if evals.empty:
        return
    for (measured, split), rows in evals.groupby(["measured", "split"]):
        hashes = rows.groupby("protocol_hash")["run"].first()
        if len(hashes) > 1:
            runs = "; ".join(f"{key}: {run}" for key, run in hashes.items())
            raise StoreError(
                f"{results.root}: {measured} on {split} was measured under {len(hashes)} protocols, "
                f"which one table must not mix ({runs}). Move the runs of one of them to a folder of "
                "their own"
            )


def headline(results: Results) -> pd.DataFrame:
    """One row a (task, learning rate, method): gains, forgetting, intervals, cost.

    Interval columns hold ``statistics.Interval``. Cells that are not done have ``state`` with the
    reason and no numbers.
    """
    if results.cells.empty:
        return pd.DataFrame()
    assert_one_protocol(results)
    rows = [
        _row(results, str(task), float(rate), str(method), cells)
        for (task, rate, method), cells in results.cells.groupby(
            ["task", "learning_rate", "method"], sort=False
        )
    ]
    return pd.DataFrame(rows)


def _row(
    results: Results, task: str, rate: float, method: str, cells: pd.DataFrame
) -> dict[str, Any]:
    done = cells[cells["state"] == "done"]
    row: dict[str, Any] = {
        "task": task,
        "learning_rate": rate,
        "method": method,
        "seeds": len(done),
        "state": _state(cells),
    }
    if done.empty:
        return row
    mine = results.samples[
        (results.samples["task"] == task)
        & (results.samples["method"] == method)
        & (results.samples["learning_rate"] == rate)
    ]
    test = mine[mine["split"] == "test"]
    base = _anchor(results, "base", task, "test")
    ceiling = _anchor(results, "ceiling", task, "test")
    row |= {
        "steps": sorted(int(step) for step in done["chosen_step"]),
        "plain": statistics.mean(test),
        "base": statistics.mean(base),
        "ceiling": statistics.mean(ceiling),
        "gap closed": statistics.gap_closed(test, base, ceiling),
        "parsed": float((~test["outcome"].isin(["unparsable", "truncated"])).mean()),
        "mde": statistics.minimum_detectable_effect(test, base),
        "tokens written": float(done["tokens_written"].mean()),
        "tokens scored": float(done["teacher_tokens_scored"].mean()),
    }
    for name in sorted(mine.loc[mine["split"] == "retention", "measured"].unique()):
        after = mine[(mine["split"] == "retention") & (mine["measured"] == name)]
        before = _anchor(results, "base", name, "retention")
        row[f"{name} before"] = statistics.mean(before)
        row[f"{name} after"] = statistics.mean(after)
        row[f"{name} change"] = statistics.difference(after, before)
    return row


def _anchor(results: Results, reading: str, measured: str, split: str) -> pd.DataFrame:
    anchors = results.anchors
    return anchors[
        (anchors["reading"] == reading)
        & (anchors["measured"] == measured)
        & (anchors["split"] == split)
    ]


def _state(cells: pd.DataFrame) -> str:
    missing = cells[cells["state"] != "done"]
    if missing.empty:
        return "done"
    reasons = [
        f"failed: {reason}" if state == "failed" else "not run"
        for state, reason in zip(missing["state"], missing["reason"], strict=True)
    ]
    return f"{len(missing)} of {len(cells)} seeds missing ({reasons[0]})"


def as_text(table: pd.DataFrame) -> str:
    """The headline table for a terminal, with its caption."""
    if table.empty:
        return "no cell has run yet"
    shown = table.drop(columns=["mde", "steps"], errors="ignore").map(_text)
    shown["learning_rate"] = [f"{rate:g}" for rate in table["learning_rate"]]
    shown["seeds"] = ["one seed" if n == 1 else str(n) for n in table["seeds"]]
    blocks = []
    for task, rows in shown.groupby("task", sort=False):
        columns = [c for c in rows.columns if c != "task" and not (rows[c] == "").all()]
        if (rows["state"] == "done").all():
            columns.remove("state")
        blocks.append(f"{task}\n{rows[columns].to_string(index=False, justify='left')}")
    caption = [f"Accuracies in %, with intervals: {statistics.METHOD}."]
    if "mde" in table and table["mde"].notna().any():
        points = 100 * table["mde"].max()
        caption.append(
            f"Smallest difference found with 80 % power (paired, 5 %): {points:.1f} points."
        )
    if (table["seeds"] == 1).any():
        caption.append("One seed says nothing about the spread between trainings.")
    return "\n\n".join(blocks) + "\n\n" + "\n".join(caption)


def _text(value: object) -> str:
    if isinstance(value, statistics.Interval):
        return value.points()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value > 1 else f"{100 * value:.1f}"
    return str(value)


def headline_text(root: Path) -> str:
    """The headline table of stored results, as text."""
    return as_text(headline(load(root)))
