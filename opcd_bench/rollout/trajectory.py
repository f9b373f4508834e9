"""What is kept of an attempt at an example: its turns, its grade, its outcome; as JSON too."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from opcd_bench.envs.task import Grade, Message
from opcd_bench.errors import DataError
from opcd_bench.rollout.engine import Reply

Outcome = Literal["correct", "wrong", "unparsable", "truncated", "failed"]

HAS = (
    "one has example_id, outcome, score, answer, why, feedback, and turns with messages, "
    "prompt_ids, reply, ids, logprobs and finish"
)
"""What a stored trajectory has, for whoever gives another row."""


@dataclass(frozen=True)
class TurnRecord:
    """One (prompt, reply) pair.

    ``messages`` are plain; ``prompt_ids`` are what the writer read (told, if it was told).
    """

    messages: tuple[Message, ...]
    prompt_ids: tuple[int, ...]
    reply: Reply


@dataclass(frozen=True)
class Trajectory:
    """All turns of one attempt at one example, and what they are worth."""

    example_id: str
    turns: tuple[TurnRecord, ...]
    grade: Grade
    outcome: Outcome
    feedback: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for one JSON line; ``from_json`` gives an equal Trajectory back."""
        return {
            "example_id": self.example_id,
            "outcome": self.outcome,
            "score": self.grade.score,
            "answer": self.grade.answer,
            "why": self.grade.why,
            **({"also": dict(self.grade.also)} if self.grade.also else {}),
            "feedback": self.feedback,
            "turns": [
                {
                    "messages": [dict(message) for message in turn.messages],
                    "prompt_ids": list(turn.prompt_ids),
                    "reply": turn.reply.text,
                    "ids": list(turn.reply.ids),
                    "logprobs": _finite(self.example_id, turn.reply.logprobs),
                    "finish": turn.reply.finish,
                    **_temperature(turn.reply),
                }
                for turn in self.turns
            ],
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Trajectory:
        """The Trajectory that ``to_json`` wrote. Raises DataError for a row of another shape."""
        try:
            return cls(
                example_id=row["example_id"],
                turns=tuple(
                    TurnRecord(
                        messages=tuple(dict(message) for message in turn["messages"]),
                        prompt_ids=tuple(turn["prompt_ids"]),
                        reply=Reply(
                            ids=tuple(turn["ids"]),
                            logprobs=tuple(turn["logprobs"]),
                            text=turn["reply"],
                            finish=turn["finish"],
                            logprob_temperature=turn.get("logprob_temperature"),
                        ),
                    )
                    for turn in row["turns"]
                ),
                grade=Grade(row["score"], row["answer"], row["why"], dict(row.get("also", {}))),
                outcome=row["outcome"],
                feedback=row["feedback"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"this is not a stored trajectory ({type(error).__name__}: {error}); {HAS}"
            ) from error


def _temperature(reply: Reply) -> dict[str, float]:
    known = reply.logprob_temperature
    return {} if known is None else {"logprob_temperature": known}


def _finite(example_id: str, logprobs: Sequence[float]) -> list[float]:
    if not all(map(math.isfinite, logprobs)):
        raise ValueError(
            f"example {example_id}: a log-probability is not finite, which JSON cannot store"
        )
    return list(logprobs)


@dataclass(frozen=True)
class Skipped:
    """An example whose prompt was too long to be read whole: not played, and counted as such.

    ``turn`` counts from 0; ``length`` and ``limit`` are in tokens, of the prompt as it was read.
    """

    example_id: str
    turn: int
    length: int
    limit: int
