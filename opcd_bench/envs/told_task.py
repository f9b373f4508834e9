"""A task whose prompts hold what is told of it: for a model that is trained with the context."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from opcd_bench.envs.task import (
    BestPossible,
    Context,
    Episode,
    Example,
    Floor,
    Grade,
    Message,
    Split,
    Task,
    Turn,
)


class ToldEpisode(Episode):
    """An episode whose every prompt is told a context."""

    def __init__(self, episode: Episode, context: Context) -> None:
        self._episode, self._context = episode, context

    @property
    def messages(self) -> Sequence[Message]:  # type: ignore[override]
        """The messages to answer next, with the context."""
        return self._context.tell(self._episode.messages)

    def step(self, reply: str) -> Turn:
        """Take the reply."""
        turn = self._episode.step(reply)
        if turn.done:
            return turn
        return Turn(tuple(self._context.tell(turn.messages)), turn.done)

    def grade(self) -> Grade:
        """As the task grades it."""
        return self._episode.grade()

    def feedback(self) -> str:
        """As the environment says it."""
        return self._episode.feedback()


class ToldTask(Task):
    """``task`` with its context in every prompt; ``seed`` draws from a pool of them."""

    def __init__(self, task: Task, seed: int) -> None:
        self._task, self._seed = task, seed
        self.name, self.version, self.summary = task.name, task.version, task.summary
        self.max_turns, self.train_graded = task.max_turns, task.train_graded
        self.given = copy.copy(task.contexts())

    def options(self) -> Mapping[str, Any]:
        """The task's, and that it is told."""
        return {**self._task.options(), "told": True}

    def context(self) -> Context:
        """The task's own."""
        return self._task.context()

    def examples(self, split: Split) -> Sequence[Example]:
        """The task's own."""
        return self._task.examples(split)

    def open(self, example: Example, seed: int) -> Episode:
        """A fresh episode, told."""
        context = self._task.contexts().of(self.name, self._seed, example.id)
        return ToldEpisode(self._task.open(example, seed), context)

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        """The task's own."""
        return self._task.floors(examples)

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        """The task's own."""
        return self._task.best_possible(examples)
