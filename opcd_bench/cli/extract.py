"""`opcd-bench extract`: contexts from a model's own attempts at train examples."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opcd_bench.cli import options, settings
from opcd_bench.cli.interrupt import interruptible
from opcd_bench.cli.output import Json, print_json, text_table
from opcd_bench.config.commands import ExtractSettings
from opcd_bench.config.experience import STAGES
from opcd_bench.config.validated import validated
from opcd_bench.envs.task import Task
from opcd_bench.errors import UnknownName
from opcd_bench.progress import reporter
from opcd_bench.runner import preflight, registry

if TYPE_CHECKING:
    from opcd_bench.experience.recipe import Extracted

TaskName = Annotated[
    str,
    typer.Option(
        "--tasks",
        "--task",
        metavar="NAME|FILE",
        help="Task, by name (opcd-bench tasks lists them) or as a file.",
    ),
]


def extract(
    context: typer.Context,
    task: TaskName,
    out: Annotated[
        Path, typer.Option(help="Folder for the contexts and for the stages before them.")
    ],
    until: Annotated[
        str, typer.Option(metavar="|".join(STAGES), help="Last stage to run.")
    ] = STAGES[-1],
    cite: Annotated[
        bool,
        typer.Option(
            "--cite", help="Ask the model to name the lessons that it used in a solution."
        ),
    ] = False,
    assignments: settings.Assignments = None,
    json: Json = False,
    **words: Any,
) -> None:
    """Extract experience: attempt train examples, draw lessons, keep them as contexts.

    The model attempts the examples without a context and then reflects on its own attempts. Only
    the train split is read, and never a reference answer. Every stage is stored in --out; after an
    interruption, the same command continues.
    """
    given = {**words, **settings.assigned(assignments or (), ExtractSettings)}
    made = validated(ExtractSettings, given, "command line")
    if until not in STAGES:
        raise UnknownName("stage", until, STAGES)
    found = registry.task(task, history=made.history, data_dir=made.data_dir)
    from opcd_bench.experience.folder import ExperienceDir

    ExperienceDir(out, made.variant).refuse_foreign()
    for setting in ("max_completion_length", "max_reflection_length"):
        preflight.refuse_window(setting, getattr(made, setting), made.model, made.revision)
    found.examples("train")  # data that cannot be read are told before a model is loaded
    from opcd_bench.experience import reader
    from opcd_bench.experience.extract import Extraction
    from opcd_bench.experience.folder import date_of
    from opcd_bench.experience.prompts import prompts_for
    from opcd_bench.experience.recipe import Recipe
    from opcd_bench.rollout.engine import Sampling

    recipe = Recipe.of(
        made,
        solving=Sampling(made.temperature, made.top_p, made.top_k, made.max_completion_length),
        reflecting=Sampling(
            made.reflect_temperature, made.top_p, made.top_k, made.max_reflection_length
        ),
        batch=made.batch_size,
    )
    prompts = prompts_for(found, made.model, made.prompts, cite=cite)
    with interruptible(context, "What is stored stays"):
        read = reader.opened(made, date_of(out))
        results = Extraction(found, recipe, prompts, read, out, reporter()).run(until)
    if json:
        print_json({"out": str(out), "contexts": [_row(one) for one in results]})
    elif not results:
        print(f"{until} are in {out}; to continue, leave out --until {until}")
    else:
        _print(found, made.model, out / made.variant, results)


options.put(extract, "out", options.of(ExtractSettings))


def _row(one: Extracted) -> dict[str, Any]:
    return {
        "seed": one.seed,
        "context": None if one.path is None else str(one.path),
        "attempts": dict(one.statuses),
        "items": one.items,
        "kept": one.kept,
        "tokens": one.tokens,
    }


def _print(task: Task, model: str, folder: Path, results: Sequence[Extracted]) -> None:
    statuses: Mapping[str, int] = results[0].statuses
    shown = [name for name in statuses if any(one.statuses[name] for one in results)]
    columns = ["seed", *shown, "items", "kept", "tokens", "context"]
    rows = [
        [
            one.seed,
            *(one.statuses[name] for name in shown),
            one.items,
            one.kept,
            one.tokens,
            one.path,
        ]
        for one in results
    ]
    print(text_table(columns, rows))
    path = next(one.path for one in results if one.path is not None)
    chosen = ["opcd-bench", "select", "--tasks", task.name, "--model", model, "--contexts"]
    print(f"\nChoose the best of them on dev: {shlex.join([*chosen, str(folder)])}")
    run = ["opcd-bench", "run", "--suite", "quick", "--tasks", task.name, "--model", model]
    print(f"Or train with one of them:       {shlex.join([*run, '--context', str(path)])}")
