"""`opcd-bench select`: one context (or a pool) of a folder, chosen on dev, drawn, or the first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opcd_bench.cli import options, settings
from opcd_bench.cli.extract import TaskName
from opcd_bench.cli.interrupt import interruptible
from opcd_bench.cli.output import Json, print_json, say, text_table
from opcd_bench.config.commands import SelectSettings
from opcd_bench.config.validated import validated
from opcd_bench.progress import reporter
from opcd_bench.runner import preflight, registry

if TYPE_CHECKING:
    from opcd_bench.experience.select import Chosen


def select(
    context: typer.Context,
    task: TaskName,
    contexts: Annotated[Path, typer.Option(help="Folder with the contexts (*.json, *.txt).")],
    out: Annotated[
        Path | None,
        typer.Option(help="File for the chosen context (default: in selected/ in that folder)."),
    ] = None,
    assignments: settings.Assignments = None,
    json: Json = False,
    **words: Any,
) -> None:
    """Choose one of several contexts; the test split is never read.

    --select best scores all contexts on a few dev examples, keeps the better half, doubles the
    number of examples, and so on. After an interruption, the same command continues.
    """
    given = {**words, **settings.assigned(assignments or (), SelectSettings)}
    made = validated(SelectSettings, given, "command line")
    found = registry.task(task, history=made.history, data_dir=made.data_dir)
    length = made.max_completion_length
    preflight.refuse_window("max_completion_length", length, made.model, made.revision)
    found.examples("dev")  # data that cannot be read are told before a model is loaded
    from opcd_bench.experience import reader
    from opcd_bench.experience.folder import date_of
    from opcd_bench.experience.select import Selection
    from opcd_bench.rollout.engine import Sampling

    selection = Selection(
        found,
        contexts,
        made.select,
        made.seed,
        Sampling(made.temperature, made.top_p, made.top_k, made.max_completion_length),
        made.dev_items,
        made.first_items,
    )
    with interruptible(context, "What is stored stays"):
        chosen, paths = selection.run(
            out, lambda: reader.opened(made, date_of(contexts.parent)), reporter()
        )
    if json:
        print_json({"contexts": [str(path) for path in paths], **_values(chosen)})
        return
    _print(chosen)
    named = ", ".join(f'"{path}"' for path in paths)
    say(f"chosen: {', '.join(chosen.names)}")
    say(f"In a suite: context = {named if len(paths) == 1 else f'[{named}]'}")


options.put(select, "contexts", options.of(SelectSettings))


def _values(chosen: Chosen) -> dict[str, Any]:
    return {
        "chosen": list(chosen.names),
        "rounds": [{"items": r.items, "scores": dict(r.scores)} for r in chosen.rounds],
        "plain": chosen.plain,
        "cost": None if chosen.cost is None else dict(chosen.cost),
    }


def _print(chosen: Chosen) -> None:
    """Scores in % by round, and what they cost."""
    if not chosen.rounds or chosen.cost is None:
        return
    names = list(chosen.rounds[0].scores)
    columns = ["context", *(f"{r.items} dev" for r in chosen.rounds)]
    rows = [[n, *(_percent(r.scores.get(n)) for r in chosen.rounds)] for n in names]
    blank: list[str | None] = [None] * (len(chosen.rounds) - 1)
    say(text_table(columns, [*rows, ["(none)", *blank, _percent(chosen.plain)]]))
    cost = chosen.cost
    say(
        f"\n{cost['samples']} samples scored (every context on every example would be "
        f"{cost['samples_of_all_on_all']}), {cost['prompt_tokens']} prompt tokens read and "
        f"{cost['tokens_written']} tokens generated"
    )


def _percent(score: float | None) -> str | None:
    return None if score is None else f"{100 * score:.1f}"
