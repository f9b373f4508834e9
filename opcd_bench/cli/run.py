"""`opcd-bench run`: train, score and compare the cells of a suite."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from opcd_bench.cli import chains, settings
from opcd_bench.cli.interrupt import interruptible
from opcd_bench.cli.output import Json, exit_if, print_json, text_table
from opcd_bench.config.suite import Suite
from opcd_bench.errors import UserError
from opcd_bench.progress import reporter
from opcd_bench.runner import grid
from opcd_bench.runner.rounds import any_suite


def run(
    context: typer.Context,
    suite: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="A suite by name, or a TOML file of your own."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A size of the suite; list: opcd-bench suites."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Methods: opcd, 'opcd[k=4]', ./my_method.py; list: opcd-bench methods.",
        ),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Tasks: rule_math, ./my_task.py; list: opcd-bench tasks."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="How many training seeds: 0 … n-1.")] = None,
    learning_rate: Annotated[
        str | None, typer.Option(metavar="R,R", help="One rate, or several: the sweep.")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples an optimiser step.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Student: Hub id, folder, or 'micro' (built in).")
    ] = None,
    teacher_model: Annotated[
        str | None, typer.Option(help="A larger teacher: Hub id or folder.")
    ] = None,
    output_dir: Annotated[
        str | None, typer.Option(help="Where results go (default: results).")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The suite's name: its folder under the results.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = None,
    engine: Annotated[
        str | None, typer.Option(help="Who writes replies: hf (transformers) or vllm.")
    ] = None,
    vllm_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A running vLLM server that writes (--engine vllm)."),
    ] = None,
    teacher_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A running vLLM server that scores for the teacher (teacher_engine = vllm).",
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Cells at a time.")] = None,
    history: Annotated[
        str | None, typer.Option(help="What a game shows at each turn: last or full.")
    ] = None,
    retention: Annotated[
        str | None, typer.Option(metavar="A,B", help="Retention tasks by name; or none.")
    ] = None,
    contexts: Annotated[
        list[str] | None,
        typer.Option(
            "--context",
            metavar="FILE",
            help="What teachers are told in place of the task's own context (repeatable: a pool); "
            "none: the task's own.",
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(help="Rounds of extract, deploy and consolidate, each from the last one's."),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Folder with local data files, in place of the Hub.")
    ] = None,
    report_to: Annotated[
        str | None, typer.Option(help="none, tensorboard or wandb: a live tracker.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting of a suite (repeatable)."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells, and run nothing.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Render the report at the end.")
    ] = True,
    json: Json = False,
) -> None:
    """Train, score and compare: methods x tasks x learning rates x seeds.

    The same command line resumes an interrupted run: what is sealed is kept, what is not goes on
    from its last checkpoint.
    """
    made = settings.make(
        suite,
        {
            "methods": methods,
            "tasks": tasks,
            "seeds": seeds,
            "learning_rate": learning_rate,
            "max_steps": max_steps,
            "batch_size": batch_size,
            "model": model,
            "teacher_model": teacher_model,
            "output_dir": output_dir,
            "name": name,
            "device": device,
            "engine": engine,
            "vllm_url": vllm_url,
            "teacher_url": teacher_url,
            "jobs": jobs,
            "history": history,
            "retention": retention,
            "context": contexts or None,
            "rounds": rounds,
            "data_dir": data_dir,
            "report_to": report_to,
        },
        assignments,
        size=size,
    )
    if dry_run:
        if made.chained:
            chains.print_planned(made, json)
        else:
            _print_cells(made, any_suite.planned(made), json)
        return
    from opcd_bench.report.tables import stored

    with interruptible(context, "Nothing is lost"):
        summary = any_suite.run(made, console=reporter())
    if not json:
        print(stored.text_of(summary.suite_dir, chained=made.chained))
        what = "rounds" if made.chained else "cells"
        print(f"\n{summary.done} of {summary.total} {what} done, {summary.failed} failed")
        print(f"Results: {summary.suite_dir} (opcd-bench show {summary.suite_dir})", flush=True)
    page = _report(summary.suite_dir) if report else None
    if json:
        table = stored.text_of(summary.suite_dir, chained=made.chained)
        counts = {"done": summary.done, "failed": summary.failed, "total": summary.total}
        told = {"suite_dir": str(summary.suite_dir), **counts, "table": table}
        print_json({**told, "report": None if page is None else str(page)})
    elif page is not None:
        print(f"Report: {page}")
    exit_if(summary.failed > 0)


def _report(suite_dir: Path) -> Path | None:
    """The page of a run's suite; None, and the reason on standard error, where it cannot be made.

    The results are sealed by now: a report that cannot be written does not make a run fail.
    """
    from opcd_bench.report.page import folder
    from opcd_bench.report.page.make import make

    try:
        _, written = make(suite_dir, folder.default_out(suite_dir))
    except UserError as error:
        print(f"opcd-bench: no report was written, the results are safe. {error}", file=sys.stderr)
        return None
    return written.page


def _print_cells(suite: Suite, cells: tuple[grid.Cell, ...], json: bool) -> None:
    folder = Path(suite.output_dir) / suite.name
    rows = [
        {
            "task": cell.task,
            "method": cell.method,
            "learning_rate": cell.learning_rate,
            "seed": cell.seed,
            "hash": cell.hash10,
            "name": cell.name,
            "sealed": (folder / cell.name / "DONE").is_file(),
        }
        for cell in cells
    ]
    if json:
        print_json({"suite": suite.model_dump(mode="json"), "cells": rows})
        return
    columns = ["task", "method", "learning rate", "seed", "run", "state"]
    table = [
        [
            row["task"],
            row["method"],
            grid.rate_text(cell.learning_rate),
            row["seed"],
            row["name"],
            "done" if row["sealed"] else "to run",
        ]
        for row, cell in zip(rows, cells, strict=True)
    ]
    print(text_table(columns, table))
    print(
        f"\n{len(cells)} cells of suite {suite.name!r}, {suite.max_steps} steps each, in {folder}"
    )
    if suite.headline_learning_rate == "dev":
        left = suite.seeds - (suite.sweep_seeds or suite.seeds)
        print(
            f"Then {left * len(suite.methods) * len(suite.tasks)} more: the other {left} seeds of "
            "each task and method, at its own best learning rate on dev"
        )
