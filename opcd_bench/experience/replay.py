"""State-replay: a task whose train examples are the states that a model's attempts visited."""

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
    Probe,
    Split,
    Task,
    Turn,
)
from opcd_bench.errors import DataError
from opcd_bench.hashing import digest
from opcd_bench.rollout.trajectory import Trajectory


class StateEpisode(Episode):
    """One reply to a stored state; nobody answers it, and it is worth nothing."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = [dict(message) for message in messages]

    def step(self, reply: str) -> Turn:
        """The end, whatever was replied."""
        return Turn((), done=True)

    def grade(self) -> Grade:
        """No score: the environment is not here."""
        return Grade(None, None, "a replayed state; replies to it are not graded")


class Replay(Task):
    """``task``, trained on states; dev and test are the task's own, and so are name and protocol.

    ``states`` are those of `states_of`. A state opens as an episode of one reply, without the task.
    """

    train_graded = False

    def __init__(self, task: Task, states: Sequence[Example]) -> None:
        if not states:
            raise DataError(
                f"task {task.name!r}: its attempts visited no state that can be replayed (all "
                "failed, or were too long); use consolidate = 'environment'"
            )
        self.task, self.states = task, tuple(states)
        self.name, self.version, self.summary = task.name, task.version, task.summary
        self.max_turns, self.data_dir, self.given = task.max_turns, task.data_dir, task.given
        self.source_hash, self.leak_patterns = task.source_hash, task.leak_patterns
        self._by_id = {state.id: state for state in states}

    def telling(self, contexts: Any) -> Replay:
        """The same states, told other contexts."""
        other = copy.copy(self)
        other.given = contexts
        return other

    def options(self) -> Mapping[str, Any]:
        """The task's."""
        return self.task.options()

    def training(self) -> Mapping[str, Any]:
        """How many states are replayed, and the hash of all of them."""
        return {"replay": digest([state.id for state in self.states]), "states": len(self.states)}

    def context(self) -> Context:
        """The task's own."""
        return self.task.context()

    def examples(self, split: Split) -> Sequence[Example]:
        """The states as train, the task's own dev and test."""
        return self.states if split == "train" else self.task.examples(split)

    def open(self, example: Example, seed: int) -> Episode:
        """A state as it is, anything else as the task opens it."""
        if example.id in self._by_id:
            return StateEpisode(example.content["messages"])
        return self.task.open(example, seed)

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        """The task's."""
        return self.task.floors(examples)

    def probes(self) -> Sequence[Probe]:
        """The task's own."""
        return self.task.probes()

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        """The task's."""
        return self.task.best_possible(examples)


def states_of(
    attempts: Sequence[tuple[str, Trajectory, Example]],
) -> tuple[Example, ...]:
    """Every turn of every attempt (a name that tells it apart, what was played, of which example).

    A state is the plain messages that the model read; one that was visited twice is there twice.
    Reference and hint are the example's. Failed attempts give none.
    """
    return tuple(
        Example(
            {
                "messages": [dict(message) for message in turn.messages],
                "attempt": name,
                "turn": number,
            },
            reference=example.reference,
            hint=example.hint,
        )
        for name, attempt, example in attempts
        if attempt.outcome != "failed"
        for number, turn in enumerate(attempt.turns)
    )
