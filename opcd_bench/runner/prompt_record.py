"""What is known of a suite's prompts before it runs: that they can be made, and what they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from opcd_bench.envs.task import SPLITS, Example, Message, Split, Task, describe_task
from opcd_bench.errors import StoreError, UserError
from opcd_bench.hashing import digest
from opcd_bench.models.chat_template import default_system
from opcd_bench.models.loaded import PromptFormat
from opcd_bench.models.prompts import prompt_ids, told_ids
from opcd_bench.progress import Reporter
from opcd_bench.runner.models import SuiteModels
from opcd_bench.store.suite_dir import SuiteDir

DATE, ENDS, PROMPTS, REPLACED = "template_date", "added_end", "prompts", "replaced_system_prompt"
"""Keys of suite.json."""

SAMPLED = 3
"""Examples of a split whose prompts are rendered before anything is scored."""

_REPLY = "Answer: 0"

_Ids = tuple[int, ...]


def date_of(suite_dir: SuiteDir) -> str:
    """The day (YYYY-MM-DD) that chat templates print: the suite's first, or today."""
    return str(suite_dir.read().get(DATE) or date.today().isoformat())


def checked(
    tasks: Mapping[str, Task],
    models: SuiteModels,
    suite_dir: SuiteDir | None,
    console: Reporter | None = None,
) -> dict[str, Any]:
    """What suite.json is to say of the prompts of ``tasks``.

    Raises DataError where a template refuses or fails on them, or leaves the context out, and
    StoreError where the runs of ``suite_dir`` read others. ``console`` hears what is worth knowing.
    """
    readers = _readers(models)
    found: dict[str, Any] = {
        PROMPTS: {
            f"{name}--{_key(task, models)}": {
                split: _hashes(task, split, readers) for split in SPLITS
            }
            for name, task in tasks.items()
        },
        ENDS: {reader.name: reader.added_end for reader in readers if reader.added_end},
        REPLACED: _replaced(tasks, readers),
        DATE: next((reader.date for reader in readers if reader.date), None),
    }
    found = {key: value for key, value in found.items() if value}
    if suite_dir is not None:
        refuse_other(found, suite_dir)
    if console is not None:
        _tell(found, console)
    return found


def refuse_other(now: Mapping[str, Any], suite_dir: SuiteDir) -> None:
    """Raise StoreError where the folder's runs read other prompts of the same examples."""
    stored = suite_dir.read()
    for task, splits in now[PROMPTS].items():
        before = stored.get(PROMPTS, {}).get(task, {})
        for split, hashes in splits.items():
            for reading, one in hashes.items():
                if before.get(split, {}).get(reading, one) != one:
                    raise StoreError(
                        f"{suite_dir.path}: its runs read other prompts of task "
                        f"{task.rpartition('--')[0]!r} ({split}, {reading}), and cannot stand in "
                        "one table with new ones: the chat template, the tokenizer, the data or "
                        "the version of transformers was changed. Put it back as it was, or give "
                        "another suite name with --name, or another folder with --output-dir"
                    )


def _tell(found: Mapping[str, Any], console: Reporter) -> None:
    for name, text in found.get(REPLACED, {}).items():
        shown = " ".join(text.split())
        shown = f"{shown[:57]}…" if len(shown) > 58 else shown
        console.warn(
            f"model {name!r}: the context takes the place of its chat template's own system prompt "
            f"({shown}), so prompts with and without context differ by more than the context. "
            "context_placement = 'user' keeps both"
        )
    for name, token in found.get(ENDS, {}).items():
        console.warn(
            f"model {name!r}: its chat template ends a turn with {token!r}, which neither its "
            "tokenizer nor its generation config names as an end: responses end there too"
        )


def _readers(models: SuiteModels) -> list[PromptFormat]:
    """Who is told: the student before training, and the larger teacher if there is one."""
    larger = models.suite.teacher_model is not None
    return [models.initial, *([models.larger()] if larger else [])]


def _key(task: Task, models: SuiteModels) -> str:
    """What makes prompts other ones by the user's own will, and then other runs."""
    return digest({"task": describe_task(task), "thinking": models.initial.thinking})


def _hashes(task: Task, split: Split, readers: Sequence[PromptFormat]) -> dict[str, str]:
    without: list[_Ids] = []
    told: dict[int, list[_Ids]] = {place: [] for place in range(len(readers))}
    for example in task.examples(split)[:SAMPLED]:
        context = task.contexts().of(task.name, 0, example.id)
        for messages in _prompts(task, example):
            without.append(prompt_ids(readers[0], messages))
            for place, reader in enumerate(readers):
                told[place].append(told_ids(reader, messages, context))
    names = ("with context", "with context, larger teacher")
    found = {"without context": without, **{names[place]: ids for place, ids in told.items()}}
    return {reading: digest([list(one) for one in ids]) for reading, ids in found.items()}


def _prompts(task: Task, example: Example) -> Iterator[list[Message]]:
    """What is asked first and, where a reply has another turn after it, then.

    What else the task's own code raises is what a run records as failed.
    """
    try:
        episode = task.open(example, 0)
        yield [dict(message) for message in episode.messages]
        if task.max_turns > 1 and not episode.step(_REPLY).done:
            yield [dict(message) for message in episode.messages]
    except UserError:
        raise
    except Exception:
        return


def _replaced(tasks: Mapping[str, Task], readers: Sequence[PromptFormat]) -> dict[str, str]:
    """Model -> the system prompt of its template's own that a context takes the place of."""
    system = any(
        context.placement == "system" and not _has_system(task)
        for task in tasks.values()
        for context in task.contexts().pool
    )
    if not system:
        return {}
    found = {reader.name: default_system(reader.tokenizer) for reader in readers}
    return {name: text for name, text in found.items() if text}


def _has_system(task: Task) -> bool:
    """Whether the task's prompts have a system message of their own, before which contexts go."""
    first = next((m for e in task.examples("test")[:SAMPLED] for m in _prompts(task, e)), [])
    return bool(first) and first[0]["role"] == "system"
