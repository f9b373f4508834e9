"""Files of stored responses: refused where they do not fit a suite's tasks, steps or model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Method
from opcd_bench.envs.task import Task
from opcd_bench.envs.told_task import ToldTask
from opcd_bench.errors import ConfigError, DataError
from opcd_bench.runner import grid, registry

if TYPE_CHECKING:
    from opcd_bench.models.loaded import PromptFormat


def refuse_unfit(
    suite: Suite,
    methods: Iterable[Method],
    tasks: Sequence[Task],
    student: PromptFormat | None = None,
) -> None:
    """Raise DataError for stored responses that some run of a suite could not be trained on.

    Rows that cannot be read, other prompts than the tasks', examples without a response; with a
    ``student``, tokens that are not its own, or that say other than the text.
    """
    seeds = sorted({seed for _, seed in grid.rates_and_seeds(suite)})
    for method in methods:
        for task in tasks:
            try:
                _refuse(suite.for_task(task.name), method, task, seeds, student)
            except DataError as error:
                raise DataError(f"method {method.name!r}: {error}") from None


def _refuse(
    suite: Suite, method: Method, task: Task, seeds: Sequence[int], student: PromptFormat | None
) -> None:
    """As above for one method and task; ``suite`` is the task's."""
    for part, steps in method.spans(suite.max_steps):
        if part.writer.path is not None:
            _refuse_file(suite, part, task, seeds, steps, student)
        if part.teacher.by is not None:
            by = registry.method(part.teacher.by, suite.method_files)
            if part.teacher.by_reads == "nothing":
                _refuse(suite, by, task, seeds, student)
                continue
            for seed in seeds:
                _refuse(suite, by, ToldTask(task, seed), [seed], student)


def _refuse_file(
    suite: Suite,
    part: Method,
    task: Task,
    seeds: Sequence[int],
    steps: range,
    student: PromptFormat | None,
) -> None:
    from opcd_bench.distillation.stored_replies import held  # it needs torch

    path = str(part.writer.path)
    if suite.chained and suite.consolidate == "replay":
        raise ConfigError(
            f"method {part.name!r}: the train examples of a replay are the states of each round's "
            f"own attempts, to which no file ({path}) has responses; add --set "
            "consolidate=environment, or leave the method out"
        )
    replies = held(path, task, suite)
    if student is not None:
        replies.refuse_other_tokens(student)
    for number in range(suite.rounds):
        before = number * suite.max_steps
        for seed in seeds:
            replies.refuse_lacking(seed, range(before + steps.start, before + steps.stop))
