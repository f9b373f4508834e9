"""`opcd-bench tasks`: every task with its version and splits; one by name with its prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import typer

from opcd_bench.cli.output import Json, exit_if, print_broken, print_json, say, text_table
from opcd_bench.envs import data_sets
from opcd_bench.envs.overlap import Overlap, between_splits
from opcd_bench.envs.task import SPLITS, Example, Message, Task
from opcd_bench.errors import DataError, MissingData, MissingPackage, PluginError
from opcd_bench.runner import isolated, registry
from opcd_bench.runner.plugins import build_task, guarded
from opcd_bench.runner.registry import Origin

LIST_SECONDS = 300.0
"""How long a task that does not ship may take to say its sizes."""


def tasks(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TASK]…",
            help="Only these, with context and a prompt: names (rule_math), or files (./mine.py).",
        ),
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Folder with local data files, in place of the Hub.")
    ] = None,
    json: Json = False,
) -> None:
    """List the tasks: version, sizes of the splits, turns; exit 1 if one does not load.

    By name: the context too, and a test prompt without it and with it. Sizes are of what lies in a
    folder: a listing asks nothing of the Hub.
    """
    data_sets.require_folder(data_dir)
    listing = registry.listed_tasks(words)
    rows: list[dict[str, Any]] = []
    for name, found in listing.found.items():
        origin = listing.origins[name]
        try:
            rows.append(
                guarded(origin.file, partial(_row_of, found, origin, data_dir, bool(words)))
            )
        except PluginError as error:
            listing.broken[name] = error
    if json:
        broken = {name: str(error) for name, error in listing.broken.items()}
        print_json({"tasks": rows, "broken": broken})
    elif words:
        say("\n\n".join(map(_whole, rows)))
        _print_missing(rows)
    else:
        columns = ["task", "version", *SPLITS, "turns", "origin", "summary"]
        table = [
            [
                row["name"],
                row["version"],
                *(row["sizes"].get(split) for split in SPLITS),
                row["max_turns"],
                row["origin"],
                row["summary"],
            ]
            for row in rows
        ]
        print(text_table(columns, table))
        _print_overlaps(rows)
        _print_missing(rows)
    print_broken(listing.broken)
    exit_if(bool(listing.broken))


def _print_overlaps(rows: Sequence[Mapping[str, Any]]) -> None:
    """Tasks whose train split asks what test does."""
    for row in rows:
        if row["overlap"] and row["overlap"]["near"]:
            print(f"\n{row['name']}: {Overlap(**row['overlap'])}")


def _whole(row: Mapping[str, Any]) -> str:
    """A task by itself: its line in words, its context, and a prompt without it and with it."""
    sizes = ", ".join(f"{split} {size:,}" for split, size in row["sizes"].items())
    turns = "one turn" if row["max_turns"] == 1 else f"{row['max_turns']} turns at most"
    parts = [
        f"{row['name']}, version {row['version']}: {row['summary']}",
        f"{f'{sizes} examples; ' if sizes else ''}{turns}; {row['origin']}: {row['file']}",
    ]
    context, count = row["context"], row["contexts"]
    if context and context["text"]:
        more = f"; one of {count}, of which each example draws one" if count > 1 else ""
        parts.append(f"--- context (placement: {context['placement']}{more})\n{context['text']}")
    if row["prompt"] is not None:
        parts.append(f"--- first test prompt, without context\n{_messages(row['prompt'])}")
    if row["prompt"] is not None and context["text"]:
        told = _messages(row["prompt_with_context"], context["text"])
        parts.append(f"--- the same, with context\n{told}")
    return "\n\n".join(parts)


def _messages(messages: Sequence[Message], above: str = "") -> str:
    """Messages by their roles; a text that stands above is not printed again."""
    texts = [one["content"] for one in messages]
    if above:
        texts = [text.replace(above, "(the context above)") for text in texts]
    return "\n".join(f"[{one['role']}] {text}" for one, text in zip(messages, texts, strict=True))


def _row_of(found: type[Task], origin: Origin, data_dir: str | None, whole: bool) -> dict[str, Any]:
    """A task's line; of a task that does not ship from another process, which may hang."""
    if origin.by == registry.SHIPPED:
        return _row(found, origin, data_dir, whole)
    word = str(origin.file) if origin.by == "file" else found.name
    words = [word, "whole" if whole else "", *([] if data_dir is None else [data_dir])]
    try:
        (row,) = isolated.said(f"{__name__}:row_of_name", words, LIST_SECONDS)
    except isolated.Lost as lost:
        raise PluginError(f"{origin.file}: cannot be listed: {lost}") from None
    if isinstance(row, str):
        raise PluginError(row)
    return dict(row)


def row_of_name(
    name: str, whole: str, data_dir: str | None = None
) -> Iterator[dict[str, Any] | str]:
    """A task's line, or what is wrong with the task."""
    task, origin = registry.loaded_task(name)
    try:
        yield guarded(origin.file, partial(_row, task, origin, data_dir, bool(whole)))
    except PluginError as error:
        yield str(error)


def _print_missing(rows: Sequence[Mapping[str, Any]]) -> None:
    """What the sizes that are not there wait for."""
    elsewhere = [row["name"] for row in rows if row["on_hub"]]
    if elsewhere:
        print(
            "\nRead from the Hub when a run needs them, or from a folder with --data-dir: "
            f"{', '.join(elsewhere)}"
        )
    for row in rows:
        if row["missing"] and not row["on_hub"]:
            print(f"\n{row['name']}: {row['missing']}")


def _row(found: type[Task], origin: Origin, data_dir: str | None, whole: bool) -> dict[str, Any]:
    """A task's line; data that are not here are said so, and are no fault of the plugin.

    ``whole``: with its context and its first test prompt too, None where data are not here.
    """
    sizes: dict[str, int] = {}
    missing, on_hub = None, False
    overlap: Overlap | None = None
    options: dict[str, Any] = {}
    shown: dict[str, Any] = {"context": None, "contexts": 0, "prompt": None} if whole else {}
    try:
        task = build_task(found, data_dir=data_dir)
        with data_sets.local_only():
            shown |= _context(task) if whole else {}
            options = dict(task.options())
            sizes = {split: len(task.examples(split)) for split in SPLITS}
            overlap = between_splits(task)
            shown |= _prompts(task) if whole else {}
    except (DataError, MissingPackage) as error:
        missing, on_hub = str(error), isinstance(error, MissingData)
    return {
        "name": found.name,
        "version": found.version,
        "summary": found.summary,
        "max_turns": found.max_turns,
        "sizes": sizes,
        "options": options,
        "overlap": asdict(overlap) if overlap is not None and overlap.of else None,
        "missing": missing,
        "on_hub": on_hub,
        "origin": origin.by,
        "file": str(origin.file),
        **shown,
    }


def _context(task: Task, example: Example | None = None) -> dict[str, Any]:
    """The context that an example draws, or the first, and how many there are."""
    contexts = task.contexts()
    context = contexts.pool[0] if example is None else contexts.of(task.name, 0, example.id)
    told = {"text": context.text, "placement": context.placement}
    return {"context": told, "contexts": len(contexts.pool)}


def _prompts(task: Task) -> dict[str, Any]:
    """The prompt of the first test example, without its context and with it."""
    example = task.examples("test")[0]
    messages = list(task.open(example, 0).messages)
    context = task.contexts().of(task.name, 0, example.id)
    told = context.tell(messages)
    return {**_context(task, example), "prompt": messages, "prompt_with_context": told}
