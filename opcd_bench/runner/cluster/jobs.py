"""Jobs: what a suite's run is divided into, and how each ended; plain values that travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal[
    "prepare", "retention", "anchors", "adapted", "responses", "cell", "entrants", "chain", "probe"
]
"""``prepare``: what is checked and recorded first. ``retention``, ``anchors``, ``adapted``,
``responses``: what cells share, and none should compute again: retention before training, base and
ceilings, adapted teachers with theirs, the in-context teacher's responses. ``entrants``: what is
scored, not trained. ``probe``: a piece of a probe of stored runs."""


@dataclass(frozen=True)
class Job:
    """A piece of a suite's run. Done again after an interruption, it goes on from what is stored.

    ``what`` is the kind's own: a cell, (task, seed, methods), of responses (task, seed, methods,
    share, shares), the finished cells, the place of a chain, or a piece of a probe.
    """

    kind: Kind
    name: str
    what: Any = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended: ``problem`` is None, or what went wrong in one line.

    ``warnings`` and ``notes``: what was to be said while it ran in a process that says nothing;
    ``seconds``: how long it took there. ``unscored``: runs that could not be interpolated.
    """

    cell: str
    problem: str | None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    unscored: int = 0


@dataclass(frozen=True)
class Taken:
    """A job whose folder another process is writing: ``why`` names that process."""

    why: str


@dataclass(frozen=True)
class Lost:
    """A job whose process ended before its work did; ``why`` as the cluster says it."""

    why: str


End = Outcome | Lost | Taken
"""What became of a job that was given out."""
