"""`opcd-bench show`: a run's settings, state and scores, or a suite's comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from opcd_bench.cli.output import Json, print_json, records, say, text_table
from opcd_bench.store.locate import located
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SuiteDir, is_suite

OutputDir = Annotated[str, typer.Option(help="Folder with the results of all suites.")]


def show(
    run: Annotated[str, typer.Argument(help="Folder of a run or suite, or its name.")],
    output_dir: OutputDir = "results",
    json: Json = False,
) -> None:
    """Show a run (settings, state, last scores) or a suite (its cells and the comparison)."""
    path = located(run, output_dir)
    if is_suite(path):
        _show_suite(path, json)
    else:
        _show_run(path, json)


def _show_run(path: Path, json: bool) -> None:
    reader = RunReader(path)
    evals = reader.read("evals")
    last = [row for row in evals if row["step"] == max(row["step"] for row in evals)]
    scores = [row for row in evals if row.get("final")] or last
    trained = reader.read("train")
    failure = reader.failure()
    told = {
        "path": str(path),
        "state": reader.state,
        "reason": failure["reason"] if failure is not None and not reader.sealed else None,
        "steps_trained": trained[-1]["step"] if trained else 0,
        "summary": reader.summary if reader.sealed else None,
        "scores": scores,
        "config": reader.config,
    }
    if json:
        print_json(told)
        return
    config = reader.config
    say(path)
    reason = f": {told['reason']}" if told["reason"] else ""
    say(f"state: {reader.state}{reason}, {told['steps_trained']} steps trained")
    for key, value in (reader.summary if reader.sealed else {}).items():
        say(f"{key}: {value}")
    say("\nsettings")
    for key, value in sorted(_leaves(config).items()):
        say(f"  {key} = {value}")
    if scores:
        columns = ["step", "task", "split", "metric", "value", "n", "n_unscored"]
        say(f"\n{'final scores' if scores[0].get('final') else 'last scores'}")
        say(text_table(columns, [[_rounded(row.get(c)) for c in columns] for row in scores]))


def _show_suite(path: Path, json: bool) -> None:
    from opcd_bench.report.analysis import headline, load
    from opcd_bench.report.analysis import probes as further
    from opcd_bench.report.tables import plain_text, probes, rounds

    cells = [_cell(folder) for folder in SuiteDir(path).runs()]
    chained = rounds.read(path)
    if json:
        suite = SuiteDir(path).read()
        told = {"path": str(path), "suite": suite, "cells": cells}
        print_json(
            {
                **told,
                "table": records(headline.headline(load.load(path))),
                "probes": records(further.probes(load.load(path))),
                "rounds": records(chained),
            }
        )
        return
    say(path)
    if cells or chained.empty:
        say(text_table(["run", "state"], [[c["name"], c["state"]] for c in cells]))
        for cell in cells:
            if cell["reason"]:
                say(f"{cell['name']} failed: {cell['reason']}")
        say(f"\n{plain_text.headline_text(path)}")
        if beside := probes.as_text(path):
            say(f"\n{beside}")
    if not chained.empty:
        say(f"\n{rounds.as_text(chained)}")


def _cell(folder: Path) -> dict[str, Any]:
    reader = RunReader(folder)
    failure = reader.failure() if reader.state == "failed" else None
    reason = failure["reason"] if failure is not None else None
    return {"name": folder.name, "state": reader.state, "reason": reason}


def _leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, below in value.items():
        found |= _leaves(below, f"{prefix}.{key}" if prefix else str(key))
    return found


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
