"""`opcd-bench run`: train, score and compare the cells of a suite."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from opcd_bench.cli import chains, options, processes, settings, torchrun
from opcd_bench.cli.interrupt import interruptible
from opcd_bench.cli.output import Json, exit_if, print_json, text_table
from opcd_bench.config.suite import Suite
from opcd_bench.errors import UserError
from opcd_bench.progress import reporter
from opcd_bench.runner import grid, requested
from opcd_bench.runner.rounds import any_suite


def run(
    context: typer.Context,
    suite: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A suite by name (opcd-bench suites lists them), or a TOML file of your own. "
            "Without it, settings are those of the suite quick.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A size of the suite (opcd-bench suites lists them)."),
    ] = None,
    contexts: Annotated[
        list[str] | None,
        typer.Option(
            "--context",
            metavar="FILE",
            help="Context that teachers read in place of the task's own. Given several times: a "
            "pool, of which each example draws one. none: the task's own.",
        ),
    ] = None,
    entrant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FOLDER_OR_ID",
            help="A model trained elsewhere, to be scored on the same tasks and retention tasks "
            "(repeatable).",
        ),
    ] = None,
    interpolate: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE,SHARE",
            help="Score the weights between the base and every trained model too, at these shares "
            "of the way: 0.25,0.5,0.75.",
        ),
    ] = None,
    cluster_set: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="What a job of --cluster asks for (repeatable): workers, cpus, gpus, memory_gb, "
            "minutes, partition, account, … (docs: clusters).",
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting of a suite (repeatable): opcd-bench settings lists them.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells, and run nothing.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Render the report at the end.")
    ] = True,
    json: Json = False,
    **words: Any,
) -> None:
    """Train, score and compare: methods x tasks x learning rates x seeds.

    After an interruption, the same command continues: finished cells are kept, and the others
    resume from their last checkpoint.
    """
    own = {
        "context": contexts or None,
        "entrant": entrant,
        "interpolate": interpolate,
        "cluster_set": cluster_set,
    }
    given = processes.settings_of({**words, **own}, assignments)
    made = settings.make(suite, given, assignments, size=size)
    say_shared(suite)
    if dry_run:
        if made.chained:
            chains.print_planned(made, json)
        else:
            _print_cells(made, any_suite.planned(made), json)
        return
    if made.cluster != "local":  # each job starts its own processes
        _run(context, made, report, json)
        return
    if made.processes > 1 and processes.by_torchrun() is None:
        any_suite.checked(made, planned=False)
        torchrun.start(context, made)
    with processes.joined(made) as leads:
        if leads:
            _run(context, made, report, json)


def _run(context: typer.Context, made: Suite, report: bool, json: bool) -> None:
    """Run a suite and print what came of it."""
    from opcd_bench.report.tables import stored

    stoppable = (
        nullcontext() if processes.started_here() else interruptible(context, "Nothing is lost")
    )
    with stoppable:
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
    exit_if(summary.failed > 0 or summary.unscored > 0)


def say_shared(suite: str | None) -> None:
    """Where the settings come from that nobody gave, if no suite was named."""
    if suite is None:
        shared = requested.SHARED_SETTINGS
        print(
            f"opcd-bench: no --suite is given, so all other settings are those of {shared}",
            file=sys.stderr,
        )


options.put(run, "size", options.of(Suite, settings.OPTIONS, optional=True))


def _report(suite_dir: Path) -> Path | None:
    """The page of a run's suite; None, and the reason on standard error, where it cannot be made.

    The results are sealed by now: a report that cannot be written does not make a run fail.
    """
    from opcd_bench.report.page import folder
    from opcd_bench.report.page.make import make

    try:
        _, written = make(suite_dir, folder.default_out(suite_dir))
    except UserError as error:
        print(
            f"opcd-bench: no report was written; the results are stored. {error}", file=sys.stderr
        )
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
        f"\n{len(cells)} cells of suite {suite.name!r}, {grid.steps_text(suite)} each, in {folder}"
    )
    left = suite.seeds - (suite.sweep_seeds or suite.seeds)
    if suite.headline_learning_rate == "dev" and left:
        print(
            f"After that, {left * len(suite.methods) * len(suite.tasks)} more: the other {left} "
            "seeds of each task and method, at the learning rate that headline_rule = "
            f"{suite.headline_rule!r} chooses on dev"
        )
