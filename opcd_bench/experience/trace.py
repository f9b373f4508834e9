"""A trace: all that a reflection may read of an attempt, and so neither reference nor grade."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from opcd_bench.envs.task import Example, Message
from opcd_bench.rollout.trajectory import Trajectory


@dataclass(frozen=True)
class TraceTurn:
    """What was asked (plain messages) and what was answered."""

    messages: tuple[Message, ...]
    reply: str


@dataclass(frozen=True)
class Trace:
    """An attempt as its author saw it: every turn, and the environment's own words at the end.

    A prompt that is made from a trace cannot hold the reference answer, the hint, the grade or its
    reason: they are not in it. `gives_away` finds the one way that is left, a task whose feedback
    says the answer.
    """

    example_id: str
    turns: tuple[TraceTurn, ...]
    feedback: str


def trace_of(trajectory: Trajectory) -> Trace:
    """What a reflection may read of a stored attempt."""
    turns = tuple(TraceTurn(turn.messages, turn.reply.text) for turn in trajectory.turns)
    return Trace(trajectory.example_id, turns, trajectory.feedback)


ANNOUNCED = r"\b(?:answers?|correct|expected|reference|right|solution|truth)\b(?:\W+\w+){0,3}?\W+"
"""What comes before a word that feedback gives as the answer: ``the right answer was B``."""


def gives_away(attempt: Trajectory, example: Example) -> bool:
    """Whether the feedback on a wrong attempt says the reference answer or the hint.

    It does if it has it as words of its own that neither the problem nor the replies hold, or if it
    announces it as the answer. A number that is the answer by chance counts too: a lesson less is
    better than one that was read off the answer. After a right attempt there is no secret left.
    """
    if attempt.grade.score == 1.0:
        return False
    known = [m["content"] for turn in attempt.turns for m in turn.messages]
    known += [turn.reply.text for turn in attempt.turns]
    return says_answer(attempt.feedback, example, known)


def says_answer(feedback: str, example: Example, known: Sequence[str]) -> bool:
    """Whether feedback says the reference answer or the hint, which no text of ``known`` holds."""
    return any(
        _says(feedback, secret, ANNOUNCED)
        or (_says(feedback, secret) and not any(_says(text, secret) for text in known))
        for secret in (example.reference, example.hint)
        if secret
    )


def _says(text: str, secret: str, before: str = r"(?<!\w)") -> bool:
    words = r"\s+".join(map(re.escape, secret.split()))
    return re.search(rf"{before}{words}(?!\w)", text, flags=re.IGNORECASE) is not None
