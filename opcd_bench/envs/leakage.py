"""Context leakage: a response without context that speaks of one, or repeats its words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opcd_bench.envs.task import Task

LENGTH = 4
"""Words of the n-grams that are looked for: fewer stand in any two texts."""

PATTERNS = (
    r"\b(?:the|this|my|your|given|provided|above)\s+(?:context|hints?|lessons?)\b",
    r"\b(?:the|these|your|given|provided)\s+(?:rules|instructions|experiences?)\s+"
    r"(?:above|given|provided|say|says|state|states)\b",
    r"\b(?:as|according to)\s+(?:the\s+)?(?:context|hint|rules? (?:above|given)|lessons?)\b",
    r"\bexperience (?:item|#?\d)",
)
"""What speaks of a context whatever the task; a task may have more (`Task.leak_patterns`)."""


@dataclass(frozen=True)
class Leak:
    """What one attempt leaks: whether it ``mentions`` a context; the share that is ``copied``.

    ``copied``: of the 4-grams of its responses' words, those that stand in a context and not in the
    prompt; None where the responses are shorter.
    """

    mentions: bool
    copied: float | None


@dataclass(frozen=True)
class Told:
    """What the teachers of a task were told, as stored with a suite, to look for in responses."""

    contexts: tuple[str, ...]
    patterns: tuple[str, ...] = PATTERNS
    _grams: dict[str, frozenset[tuple[str, ...]]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @classmethod
    def of(cls, task: Task) -> Told:
        """A task's contexts and patterns."""
        texts = tuple(context.text for context in task.contexts().pool)
        return cls(texts, (*PATTERNS, *task.leak_patterns))

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {"contexts": list(self.contexts), "patterns": list(self.patterns)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Told:
        """The inverse of ``to_json``."""
        return cls(tuple(stored["contexts"]), tuple(stored["patterns"]))

    def leak(self, turns: Sequence[Mapping[str, Any]]) -> Leak:
        """Of the stored turns of an attempt: ``messages`` that were read, and the ``reply``."""
        if "" not in self._grams:
            told = (gram for text in self.contexts for gram in grams(text))
            self._grams[""] = frozenset(told)
        replies = [str(turn["reply"]) for turn in turns]
        asked: set[tuple[str, ...]] = set()
        for turn in turns:
            for message in turn["messages"]:
                if message["role"] != "assistant":
                    asked.update(grams(message["content"]))
        written = [gram for reply in replies for gram in grams(reply)]
        copied = sum(gram in self._grams[""] and gram not in asked for gram in written)
        mentions = any(
            re.search(pattern, reply, re.IGNORECASE)
            for pattern in self.patterns
            for reply in replies
        )
        return Leak(mentions, copied / len(written) if written else None)


def grams(text: str) -> list[tuple[str, ...]]:
    """The n-grams of a text's words, whatever their case and the marks between them."""
    words = re.findall(r"\w+", text.lower())
    return [tuple(words[i : i + LENGTH]) for i in range(len(words) - LENGTH + 1)]
