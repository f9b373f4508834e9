"""`opcd-bench status`: where the cells of a suite stand, and who runs those that run."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer

from opcd_bench.cli.output import Json, print_json, say, text_table
from opcd_bench.cli.show import OutputDir
from opcd_bench.errors import StoreError
from opcd_bench.progress import duration
from opcd_bench.store.cell_states import CellState, cell_states
from opcd_bench.store.locate import located
from opcd_bench.store.suite_dir import SuiteDir, is_suite


def status(
    suite: Annotated[str, typer.Argument(help="Folder of a suite, or its name.")],
    output_dir: OutputDir = "results",
    json: Json = False,
) -> None:
    """Show where the cells of a suite stand, from any machine that sees its folder.

    Running cells are shown with the host and the process that run them and their last step.
    Nothing is written.
    """
    from opcd_bench.report.analysis import planned

    path = located(suite, output_dir)
    if not is_suite(path):
        raise StoreError(f"{path} is a run, not a suite; type: opcd-bench show {path}")
    folder = SuiteDir(path)
    states = cell_states(folder)
    begun = [(one.task, one.method, one.learning_rate, one.seed, one.state) for one in states]
    total = planned.cells_planned(folder.read(), begun)
    counts = Counter[str](one.state for one in states)
    waiting = max(0, total - len(states))
    if json:
        cells = [asdict(one) for one in states]
        print_json({"path": str(path), **_counts(counts, waiting, total), "cells": cells})
        return
    numbers = _counts(counts, waiting, total)
    told = ", ".join(f"{number} {word}" for word, number in numbers.items() if number)
    say(f"{path}: {told}")
    shown = [one for one in states if one.state != "done"]
    if shown:
        rows = [[one.name, one.state, f"{one.steps}/{one.of_steps}", _said(one)] for one in shown]
        say(text_table(["cell", "state", "steps", ""], rows))
    if counts["interrupted"] or counts["failed"] or waiting:
        say("To go on, type the command that began the suite again: what is done stays.")


def _counts(counts: Counter[str], waiting: int, total: int) -> dict[str, int]:
    words = ("done", "running", "failed", "interrupted")
    return {"planned": total, **{word: counts[word] for word in words}, "waiting": waiting}


def _said(one: CellState) -> str:
    """Who runs a cell, and since when; or why it failed."""
    if one.holder is not None:
        since = f" since {one.holder.taken}" if one.holder.taken else ""
        heard = duration(one.holder.quiet)
        return f"process {one.holder.pid} on {one.holder.host}{since}, heard of {heard} ago"
    return one.reason or ""
