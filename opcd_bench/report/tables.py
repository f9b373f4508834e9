"""The comparison as data frames: what each method gained, and what it forgot."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from opcd_bench.report import statistics
from opcd_bench.report.comparable import assert_comparable
from opcd_bench.report.load import Results, load


def headline(results: Results) -> pd.DataFrame:
    """One row a (task, learning rate, method): gains, forgetting, intervals, cost.

    Interval columns hold ``statistics.Interval``; ``mde`` is of `detectable`. Rows of cells that
    are not done have ``state`` with the reason and no numbers.
    """
    if not results.cells.empty:
        assert_comparable(results)
    keys = [*_begun(results), *_planned(results)]
    rows = [_row(results, *key) for key in dict.fromkeys(keys)]
    return pd.DataFrame(rows)


def _begun(results: Results) -> list[tuple[str, float, str]]:
    cells = results.cells
    if cells.empty:
        return []
    return [
        (str(task), float(rate), str(method))
        for task, rate, method in zip(
            cells["task"], cells["learning_rate"], cells["method"], strict=True
        )
    ]


def _planned(results: Results) -> list[tuple[str, float, str]]:
    """What suite.json asks for, run or not."""
    suite = results.suite
    return [
        (task, float(rate), method)
        for task in suite.get("tasks", [])
        for rate in suite.get("learning_rate", [])
        for method in suite.get("methods", [])
    ]


def _row(results: Results, task: str, rate: float, method: str) -> dict[str, Any]:
    cells = _of(results.cells, task, rate, method)
    done = cells[cells["state"] == "done"] if len(cells) else cells
    row: dict[str, Any] = {
        "task": task,
        "learning_rate": rate,
        "method": method,
        "seeds": len(done),
        "state": _state(cells, _seeds_planned(results, rate)),
    }
    if done.empty:
        return row
    mine = _of(results.samples, task, rate, method)
    test = mine[mine["split"] == "test"]
    base = _anchor(results, "base", task, "test")
    ceiling = _anchor(results, "ceiling", task, "test")
    row |= {
        "steps": sorted(int(step) for step in done["chosen_step"]),
        "plain": statistics.mean(test),
        "floor": _floor(results, task),
        "base": statistics.mean(base),
        "ceiling": statistics.mean(ceiling),
        "gap closed": statistics.gap_closed(test, base, ceiling),
        "parsed": _parsed(results, done),
        "mde": detectable(results, task, rate, method),
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


def detectable(results: Results, task: str, rate: float, method: str) -> float:
    """The minimum detectable effect of a method at a rate, the largest over the methods beside it.

    Only for the rates that ran with the most seeds of the task: the comparison is drawn there. The
    others stand at the same rate, or each at its own headline rate where the suite chose that on
    dev. Paired by example, over the seeds that both have run; against the base where no method
    stands beside it. NaN where nothing can be paired.
    """
    test = results.samples[(results.samples["task"] == task) & (results.samples["split"] == "test")]
    seeds = test.groupby(["method", "learning_rate"])["seed"].nunique()
    full = set(seeds[seeds == seeds.max()].index)
    if (method, rate) not in full:
        return math.nan
    mine = _of(test, task, rate, method)
    found = []
    for other, at in sorted(full):
        if other == method or (at != rate and not _chosen_on_dev(results, other, full)):
            continue
        theirs = _of(test, task, at, other)
        both = set(mine["seed"]) & set(theirs["seed"])
        found.append(
            statistics.minimum_detectable_effect(
                mine[mine["seed"].isin(both)], theirs[theirs["seed"].isin(both)]
            )
        )
    if not found:
        base = _anchor(results, "base", task, "test")
        found = [statistics.minimum_detectable_effect(mine, base)]
    return max((value for value in found if not math.isnan(value)), default=math.nan)


def _chosen_on_dev(results: Results, method: str, full: set[tuple[str, float]]) -> bool:
    """Whether a method stands at one rate of its own, by the suite's rule."""
    rates = [rate for name, rate in full if name == method]
    return results.suite.get("headline_learning_rate") == "dev" and len(rates) == 1


def _of(frame: pd.DataFrame, task: str, rate: float, method: str | None = None) -> pd.DataFrame:
    """The rows of a (task, rate), or of one method there."""
    if frame.empty:
        return frame
    mine = (frame["task"] == task) & (frame["learning_rate"] == rate)
    return frame[mine if method is None else mine & (frame["method"] == method)]


def _anchor(results: Results, reading: str, measured: str, split: str) -> pd.DataFrame:
    anchors = results.anchors
    return anchors[
        (anchors["reading"] == reading)
        & (anchors["measured"] == measured)
        & (anchors["split"] == split)
    ]


def _floor(results: Results, task: str) -> float:
    """The best of the policies that read nothing, as the run stored it; NaN where it did not."""
    stored = results.suite.get("floors", {}).get(task, {})
    return max((v for name, v in stored.items() if name != "best possible"), default=math.nan)


def _parsed(results: Results, done: pd.DataFrame) -> float:
    """Share of the scored test replies in which an answer was found, whatever it is worth."""
    evals = results.evals
    rates = evals[
        evals["run"].isin(done["run"])
        & (evals["split"] == "test")
        & (evals["metric"] == "parse_rate")
    ]
    return float(rates["value"].astype(float).mean())


def _seeds_planned(results: Results, rate: float) -> int:
    """How many seeds suite.json asks for at a rate, as far as is known before anything has run."""
    suite = results.suite
    seeds, swept = int(suite.get("seeds", 0)), suite.get("sweep_seeds")
    if rate not in suite.get("learning_rate", []):
        return 0
    return seeds if swept is None or rate == suite.get("headline_learning_rate") else int(swept)


def _state(cells: pd.DataFrame, planned: int) -> str:
    """``done``, or how many cells are missing and why the first of them is."""
    reasons = [
        f"failed: {cell['reason']}" if cell["state"] == "failed" else cell["state"]
        for cell in cells.to_dict("records")
        if cell["state"] != "done"
    ]
    reasons += ["not run"] * (planned - len(cells))
    if not reasons:
        return "done"
    total = max(planned, len(cells))
    if total == 1:
        return reasons[0]
    return f"{len(reasons)} of {total} seeds missing ({reasons[0]})"


COUNTS = ("tokens written", "tokens scored")
KEYS = ("method", "learning_rate", "seeds")


def as_text(table: pd.DataFrame) -> str:
    """The headline table for a terminal: gains, then retention, a block a task; and its caption."""
    if table.empty:
        return "no cell has run yet"
    shown = table.drop(columns=["mde", "steps"], errors="ignore").astype(object)
    for column in shown.columns:
        shown[column] = [_text(value, column in COUNTS) for value in table[column]]
    shown["learning_rate"] = [f"{rate:g}" for rate in table["learning_rate"]]
    shown["seeds"] = ["one seed" if n == 1 else str(n) for n in table["seeds"]]
    blocks = []
    for task, rows in shown.groupby("task", sort=False):
        columns = [c for c in rows.columns if c != "task" and not (rows[c] == "").all()]
        if (rows["state"] == "done").all():
            columns.remove("state")
        kept = [c for c in columns if c.endswith((" before", " after", " change"))]
        blocks.append(f"{task}\n{_aligned(rows[[c for c in columns if c not in kept]])}")
        if kept:
            blocks.append(f"{task}: retention\n{_aligned(rows[[*KEYS, *kept]])}")
    return "\n\n".join([*blocks, "\n".join(_caption(table))])


def _aligned(rows: pd.DataFrame) -> str:
    """Columns of text, flush left, two spaces apart; the method comes first."""
    ordered = rows[[*KEYS, *(c for c in rows.columns if c not in KEYS)]]
    lines = [list(ordered.columns), *ordered.to_numpy().tolist()]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _caption(table: pd.DataFrame) -> list[str]:
    """What the numbers of the table are, and what they do not say."""
    if not (table["seeds"] > 0).any():
        return ["No cell is done."]
    caption = [
        f"Accuracies in %, with intervals: {statistics.METHOD}. They hold for the seeds that ran; "
        "the spread between trainings is not in them."
    ]
    known = table[table["mde"].notna()]
    if len(known):
        lone = known.groupby("task")["method"].transform("nunique").max() == 1
        least = known.groupby("task", sort=False)["mde"].max()
        caption.append(
            f"Smallest difference {'to the base' if lone else 'between two methods'} that would be "
            "found with 80 % power (paired by example, averaged over seeds, two-sided 5 %; at the "
            f"rates with the most seeds{'' if lone else ', the largest over the pairs'}): "
            + ", ".join(f"{task} {100 * value:.1f} points" for task, value in least.items())
            + "."
        )
    if (table["seeds"] == 1).any():
        caption.append("One seed says nothing about the spread between trainings.")
    return caption


def _text(value: object, count: bool) -> str:
    if isinstance(value, statistics.Interval):
        return value.points()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if count else f"{100 * value:.1f}"
    return str(value)


def headline_text(root: Path) -> str:
    """The headline table of stored results, as text."""
    return as_text(headline(load(root)))
