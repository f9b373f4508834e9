"""A question as a task: one prompt, one reply, one grade."""

from __future__ import annotations

import functools
import re
import unicodedata
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from opcd_bench.envs.data_splits import fingerprint
from opcd_bench.envs.task import (
    BestPossible,
    Episode,
    Example,
    Floor,
    Grade,
    Message,
    Split,
    Task,
    Turn,
)
from opcd_bench.envs.thinking import without_thinking

_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)


class QuestionEpisode(Episode):
    """One question and one reply; what is thought in it is not graded."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages: Sequence[Message] = tuple(messages)
        self._reply: str | None = None

    def step(self, reply: str) -> Turn:
        """Take the only reply."""
        self._reply = reply
        return Turn(tuple(self.messages), done=True)

    def grade(self) -> Grade:
        """The reply's grade; lost where there is none."""
        if self._reply is None:
            return Grade(0.0, None, "no reply was given")
        return self.graded(without_thinking(self._reply))

    @abstractmethod
    def graded(self, reply: str) -> Grade:
        """The grade of a reply without its thinking."""


class DataTask(Task):
    """What tasks of published questions share: rows that are read once, and one prompt each.

    ``data_dir`` is the folder of local data (`data_sets.rows`); None reads from the Hub. Nothing is
    read before examples are asked for. A subclass gives `load`, `question` and `graded`, and its
    context. MissingData says how to get what is missing.
    """

    choices: tuple[str, ...] = ()
    """All the answers that there can be, where they are few."""

    def __init__(self, data_dir: str | None = None) -> None:
        self.data_dir = data_dir

    @classmethod
    @abstractmethod
    def load(cls, data_dir: str | None) -> Mapping[Split, Sequence[Example]]:
        """The splits, disjoint by normalised content; called once for a folder."""

    @abstractmethod
    def question(self, example: Example) -> str:
        """The plain user message."""

    @abstractmethod
    def graded(self, example: Example, reply: str) -> Grade:
        """The grade of a reply without its thinking."""

    def options(self) -> Mapping[str, Any]:
        """The rows that it reads, by a hash of what is in them."""
        return {"data": _fingerprint(type(self), self.data_dir)}

    def examples(self, split: Split) -> Sequence[Example]:
        """The questions of a split, in the order of a hash of their content."""
        return _splits(type(self), self.data_dir)[split]

    def open(self, example: Example, seed: int) -> Episode:
        """One question; nothing is left to chance, so ``seed`` changes nothing."""
        return _Asked(self, example)

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        """The majority answer; and a uniform guess, where the answers are few."""
        found = [majority_floor([str(one.reference) for one in examples])]
        if self.choices:
            how = f"one of {', '.join(self.choices)}, each equally often"
            found.append(Floor("uniform random", 1 / len(self.choices), how))
        return found

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        """Every question has its answer."""
        return BestPossible(1.0, "every question has an answer (labels that are wrong lower it)")


class _Asked(QuestionEpisode):
    """A question of a `DataTask`."""

    def __init__(self, task: DataTask, example: Example) -> None:
        super().__init__([{"role": "user", "content": task.question(example)}])
        self._task, self._example = task, example

    def graded(self, reply: str) -> Grade:
        return self._task.graded(self._example, reply)


@functools.cache
def _splits(task: type[DataTask], data_dir: str | None) -> Mapping[Split, Sequence[Example]]:
    return task.load(data_dir)


@functools.cache
def _fingerprint(task: type[DataTask], data_dir: str | None) -> str:
    return fingerprint(_splits(task, data_dir))


def tagged_answer(reply: str) -> str | None:
    """The inside of the last ``<answer>…</answer>``; None where there is none.

    A tag that is never closed hides no other. Full-width letters and brackets come as plain ones.
    """
    found: str | None = None
    begin: int | None = None
    for tag in _TAG.finditer(reply):
        if not tag[1]:
            begin = tag.end()
        elif begin is not None:
            found, begin = reply[begin : tag.start()], None
    return None if found is None else unicodedata.normalize("NFKC", found).strip()


def majority_floor(answers: Sequence[str] | Sequence[int]) -> Floor:
    """What always giving the most frequent of ``answers`` scores on them."""
    answer, count = min(Counter(answers).items(), key=lambda item: (-item[1], item[0]))
    return Floor(
        "majority answer", count / len(answers), f"always {answer}, the most frequent here"
    )
