"""Second stage: the model reads its own attempt and writes what it learnt, as lines of lessons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from opcd_bench.envs.task import Example, Message
from opcd_bench.experience.items import items_of
from opcd_bench.experience.prompts import Prompts
from opcd_bench.experience.trace import Trace, gives_away, trace_of
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.prompts import prompt_ids
from opcd_bench.rollout.answered import answered
from opcd_bench.rollout.engine import Engine, Reply, Request, Sampling
from opcd_bench.rollout.trajectory import Skipped, Trajectory

Status = Literal["read", "withheld", "too long", "failed", "skipped"]
STATUSES: tuple[Status, ...] = ("read", "withheld", "too long", "failed", "skipped")
"""What became of an attempt: reflected on; its feedback says the reference answer, so that nobody
reads it; its reflection prompt is longer than the model reads (never cut); the task's own code
failed; its plain prompt was too long to be attempted."""


@dataclass(frozen=True)
class Asked:
    """An attempt to be reflected on: the noise of the reply, and the lessons that there are."""

    attempt: Trajectory | Skipped
    example: Example
    seed: int
    previous: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reflection:
    """What came of reflecting on an attempt.

    ``messages`` are those that were asked and ``reply`` the answer, if ``status`` is ``read``;
    ``items`` are its lessons.
    """

    example_id: str
    status: Status
    messages: tuple[Message, ...] = ()
    prompt_tokens: int = 0
    reply: Reply | None = None
    items: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values for one JSON line; the reply's ids are not kept."""
        return {
            "example_id": self.example_id,
            "status": self.status,
            "messages": [dict(message) for message in self.messages],
            "prompt_tokens": self.prompt_tokens,
            "reply": self.reply.text if self.reply else None,
            "reply_tokens": len(self.reply.ids) if self.reply else 0,
            "finish": self.reply.finish if self.reply else None,
            "items": list(self.items),
        }


def readable(attempt: Trajectory | Skipped, example: Example) -> Trace | Status:
    """What a reflection, or a context of raw traces, may read of an attempt; or why nothing."""
    if isinstance(attempt, Skipped):
        return "skipped"
    if attempt.outcome == "failed":
        return "failed"
    return "withheld" if gives_away(attempt, example) else trace_of(attempt)


def reflections(
    asked: Sequence[Asked],
    prompts: Prompts,
    loaded: LoadedModel,
    engine: Engine,
    sampling: Sampling,
) -> list[Reflection]:
    """One reflection for each attempt, in order; all prompts are answered in one call."""
    most = loaded.max_length - sampling.max_completion_length
    found: list[Reflection | None] = []
    requests: list[Request] = []
    for one in asked:
        trace = readable(one.attempt, one.example)
        if not isinstance(trace, Trace):
            found.append(Reflection(one.example.id, trace))
            continue
        assert isinstance(one.attempt, Trajectory) and not gives_away(one.attempt, one.example), (
            "a reflection never reads the reference answer"
        )
        messages = prompts.reflection(trace, one.previous)
        ids = prompt_ids(loaded, messages)
        if len(ids) > most:
            found.append(Reflection(one.example.id, "too long", prompt_tokens=len(ids)))
            continue
        requests.append(Request(ids, one.seed))
        found.append(Reflection(one.example.id, "read", tuple(messages), len(ids)))
    replies = iter(answered(engine, requests, sampling, loaded.tokenizer) if requests else ())
    return [
        _answered(one, next(replies)) if one is not None and one.status == "read" else one
        for one in found
        if one is not None
    ]


def _answered(asked: Reflection, reply: Reply) -> Reflection:
    return Reflection(
        asked.example_id,
        "read",
        asked.messages,
        asked.prompt_tokens,
        reply,
        tuple(items_of(reply.text, reply.finish)),
    )
