"""Whether a suite's retention tasks ask what its tasks train or test on, under another name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from opcd_bench.config import measures
from opcd_bench.config.suite import Suite
from opcd_bench.envs import data_sets
from opcd_bench.envs.overlap import IN_A_ROW, Overlap, overlap, texts_of
from opcd_bench.envs.task import SPLITS, Split, Task
from opcd_bench.errors import ConfigError, MissingData
from opcd_bench.evaluation import held_out_texts, retention
from opcd_bench.runner import registry

Documents = Mapping[str, Sequence[Mapping[str, Any]]]
"""The rows of retention tasks by the tasks' names."""

TOO_MANY = 0.1
"""Share of its questions from which on a retention task, or a task's test split, is the other one:
refused."""


def own(suite: Suite) -> list[str]:
    """Those of a suite's retention tasks that are this project's."""
    ours = registry.plugin_files(registry.TASKS_PACKAGE)
    return [name for name in suite.retention if name in ours]


def refuse_at_hand(suite: Suite, tasks: Mapping[str, Task]) -> None:
    """As `warnings`, for what can be read without the Hub and without a model."""
    local = retention.local_documents(registry.foreign_retention(suite), suite.data_dir)
    with data_sets.local_only():
        measured = _measured_here(suite)
    warnings(tasks, {**own_documents(suite), **measured, **local})


def measured_documents(suite: Suite) -> Documents:
    """The questions and texts of a suite's held-out losses, as `warnings` takes them."""
    names = filter(measures.HELD_OUT.__contains__, suite.retention)
    return {name: held_out_texts.documents(name, suite.data_dir) for name in names}


def _measured_here(suite: Suite) -> Documents:
    """As `measured_documents`; nothing where they are not in a folder here."""
    try:
        return measured_documents(suite)
    except MissingData:
        return {}


def own_documents(suite: Suite) -> Documents:
    """What the retention tasks of this project ask, as `warnings` takes it."""
    return {
        name: [example.content for example in task.examples("test")]
        for name, task in own_tasks(suite).items()
    }


def own_tasks(suite: Suite) -> dict[str, Task]:
    """Those retention tasks of a suite that are this project's, by name."""
    return {name: own_task(suite, name) for name in own(suite)}


def own_task(suite: Suite, name: str) -> Task:
    """A retention task of this project."""
    return registry.task(name, history=suite.history, data_dir=suite.data_dir)


def warnings(tasks: Mapping[str, Task], documents: Documents) -> list[str]:
    """What to say of retention tasks that share questions with the tasks.

    Raises ConfigError where one shares `TOO_MANY` of its questions or more, or of those of a task's
    test: it then measures what is trained, or reads the test split before the checkpoint is chosen.
    Dev, which may be of a few questions, is scored on the way by right.
    """
    said = []
    for name, rows in documents.items():
        asked = [texts_of(row) for row in rows]
        for task in tasks.values() if any(asked) else ():
            splits = {
                split: [texts_of(e.content) for e in task.examples(split)] for split in SPLITS
            }
            every = overlap(asked, [texts for split in splits.values() for texts in split])
            if not every.near:
                continue
            by_split = {split: overlap(asked, texts) for split, texts in splits.items()}
            told = _told(name, task.name, every, by_split)
            test = overlap(splits["test"], asked)
            if any(one.same and one.same >= TOO_MANY * one.of for one in (every, test)):
                raise ConfigError(
                    f"{told}. Retention is of what is not trained on, and the test split is "
                    "scored after the checkpoint is chosen only: remove one of them, from tasks "
                    "or from retention"
                )
            said.append(f"{told}: on these, retention is not apart from the task")
    return said


def _told(name: str, task: str, every: Overlap, by_split: Mapping[Split, Overlap]) -> str:
    what = "held-out loss" if measures.is_measure(name) else "retention task"
    where = ", ".join(f"{split} {one.same}" for split, one in by_split.items() if one.same)
    return (
        f"{what} {name!r} asks {every.same} of its {every.of} questions word for word as "
        f"the task {task!r} does{f' ({where})' if where else ''}, and {every.near} share "
        f"{IN_A_ROW} words in a row with it"
    )
