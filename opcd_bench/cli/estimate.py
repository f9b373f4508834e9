"""`opcd-bench estimate`: tokens, memory and time of a suite, before it runs."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opcd_bench.cli import run, settings
from opcd_bench.cli.interrupt import interruptible
from opcd_bench.cli.output import print_json, text_table
from opcd_bench.config.suite import Suite
from opcd_bench.progress import duration, reporter

if TYPE_CHECKING:
    from opcd_bench.runner.estimate.estimate import Estimate, TaskEstimate
    from opcd_bench.runner.estimate.workload import Tokens

_NOT_HERE = ("dry_run", "report")
"""Options of `opcd-bench run` that have no meaning for an estimate."""

DOING = {"always": "always", "writing": "generating", "training": "training"}
"""When memory is needed, in the words of users."""

Measure = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Run N real optimiser steps of each task and method and time them.",
    ),
]


def estimate(context: typer.Context, measure: int, json: bool, **words: Any) -> None:
    """Estimate what a run needs: tokens, memory, and time where it is known.

    The options are those of `opcd-bench run`. Nothing is stored, and no weights are loaded except
    by --measure.
    """
    made = suite_of(words)
    run.say_shared(words["suite"])
    from opcd_bench.runner.estimate import estimate as estimates

    with interruptible(context, "Nothing was written"):
        found = estimates.estimate(made, measure=measure, console=reporter())
    if json:
        print_json({"suite": made.name, **dataclasses.asdict(found)})
    else:
        _print(made, found)


def _signature() -> inspect.Signature:
    """The options of `opcd-bench run`, whatever they are, and --measure."""
    kind = inspect.Parameter.KEYWORD_ONLY
    shared = [
        parameter.replace(kind=kind)
        for name, parameter in inspect.signature(run.run, eval_str=True).parameters.items()
        if name not in _NOT_HERE
    ]
    own = inspect.Parameter("measure", kind, default=0, annotation=Measure)
    return inspect.Signature([*shared, own])


estimate.__dict__["__signature__"] = _signature()


def suite_of(words: Mapping[str, Any]) -> Suite:
    """The suite that options of `opcd-bench run` ask for; they bear the names of settings."""
    given = dict(words)
    suite, size, assignments = (given.pop(name) for name in ("suite", "size", "assignments"))
    given["context"] = given.pop("contexts") or None
    return settings.make(suite, given, assignments, size=size)


def _print(suite: Suite, found: Estimate) -> None:
    if found.model is not None:
        shape = found.model
        trained = f"{shape.adapter:,} of an adapter" if shape.adapter else "all"
        print(f"{shape.name}: {shape.parameters:,} parameters, trained: {trained}")
    print(f"suite {suite.name!r}\n")
    columns = [
        "task",
        "tokens",
        "cells",
        "steps",
        "student rollouts",
        "teacher rollouts",
        "teacher scored",
    ]
    rows: list[list[object]] = []
    for one in found.tasks:
        rows.append(_row(one, "at most", one.work.at_most))
        if one.work.expected is not None:
            rows.append(_row(one, "expected", one.work.expected))
    print(text_table([*columns, "trained", "evaluated"], rows))
    for one in found.tasks:
        _print_memory(one, suite.processes)
    print(f"\nTime: {_time(suite, found)}")
    for note in found.notes:
        print(f"Note: {note}")


def _row(one: TaskEstimate, what: str, tokens: Tokens) -> list[object]:
    numbers = [tokens.written, tokens.told_written, tokens.teacher_scored, tokens.trained]
    counts = [one.work.cells, one.work.steps, *numbers, tokens.evaluated]
    return [one.work.task, what, *(f"{count:,}" for count in counts)]


def _print_memory(one: TaskEstimate, processes: int) -> None:
    from opcd_bench.runner.estimate.memory import peak

    if one.lengths is None:
        return
    each = f", on each of {processes} GPUs" if processes > 1 else ""
    print(
        f"\nMemory for {one.work.task}{each}, with prompts of {one.lengths.plain} tokens without "
        f"context and {one.lengths.told} with context (from {one.lengths.source}):"
    )
    rows = [[part.name, _size(part.bytes), DOING[part.when], part.how] for part in one.parts]
    print(text_table(["what", "bytes", "when", "made of"], rows))
    for phase, size in peak(one.parts).items():
        print(f"at most while {DOING[phase]}: {_size(size)}")
    if one.gpus is not None:
        need = "one GPU" if one.gpus == 1 else f"{one.gpus} GPUs (--processes {one.gpus})"
        print(f"GPUs of 80 GB that a cell needs: {need}")
    if one.peak_seen is not None:
        print(
            f"measured where the expected numbers come from: {_size(one.peak_seen)} (GPU memory, "
            "or without a GPU the whole process with libraries and data)"
        )


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _on(workers: int, suite: Suite, found: Estimate) -> float:
    from opcd_bench.runner.estimate.workers import seconds_on, waves_of

    known = [(one.work.cells, one.seconds.total) for one in found.tasks if one.seconds is not None]
    cells, seconds = zip(*known, strict=True)
    return seconds_on(workers, waves_of(suite, cells, seconds))


def _time(suite: Suite, found: Estimate) -> str:
    if found.seconds is None:
        return (
            "unknown; add --measure 3, which runs three real steps of each task and method and "
            "stores nothing"
        )
    told = f"about {duration(found.seconds)}, one cell at a time (from {found.source})"
    workers = suite.cluster_options.workers
    if suite.cluster != "local" and workers is not None:
        told += f"; on {workers} workers about {duration(_on(workers, suite, found))}"
    elif suite.cluster != "local":
        told += "; for the hours on N workers give --cluster-set workers=N"
    elif suite.jobs > 1:
        told += f"; --jobs {suite.jobs} divides this among as many processes"
    parts = [one.seconds for one in found.tasks if one.seconds is not None]
    writing = sum(part.writing for part in parts)
    training = sum(part.training for part in parts)
    other = sum(part.other for part in parts)
    return (
        f"{told}: rollouts {duration(writing)}, training {duration(training)}, evaluation and "
        f"the rest {duration(other)}"
    )
