"""A model's score on a task, whichever scorer it comes from, and its rows in a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SCORED = ("correct", "wrong", "unparsable", "truncated")
UNSCORED = ("failed", "skipped")
OUTCOMES = (*SCORED, *UNSCORED)


@dataclass(frozen=True)
class Score:
    """Graded samples and what they come to.

    ``split`` is ``retention`` for what is never trained on; ``primary`` names the metric that
    tables show. ``metrics``: name -> value in [0, 1] (or tokens), None where nothing could be
    scored. ``n`` samples, of which ``n_unscored`` failed or were skipped; these are in no mean.
    Scores of different ``protocol_hash`` must not stand in one table. ``samples``: one row a
    sample in fixed order, with ``example_id`` and ``score`` (None: unscored). ``details`` are what
    the scorer says besides, and are not stored.
    """

    task: str
    split: str
    primary: str
    metrics: Mapping[str, float | None]
    n: int
    n_unscored: int
    protocol_hash: str
    samples: tuple[Mapping[str, Any], ...]
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def to_rows(self) -> list[dict[str, Any]]:
        """All but the details as JSON rows: the score itself, then its samples."""
        head = dataclasses.asdict(self)
        del head["samples"], head["details"]
        return [{"measured": head}, *(dict(sample) for sample in self.samples)]

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> Score:
        """The inverse of ``to_rows``."""
        return cls(**rows[0]["measured"], samples=tuple(rows[1:]))


@dataclass(frozen=True)
class Protocol:
    """What a score will be measured under, as far as that is known before it is.

    ``hash``: its ``protocol_hash``; ``with_primary``: the one that it has where the primary metric,
    which only the samples tell, is part of it.
    """

    hash: str
    with_primary: Callable[[str], str] | None = None

    def is_of(self, primary: str, protocol_hash: str) -> bool:
        """Whether a score with this primary metric and hash was measured under it."""
        return protocol_hash == self.hash or (
            self.with_primary is not None and protocol_hash == self.with_primary(primary)
        )


def score_of(row: Mapping[str, Any]) -> float | None:
    """What a sample counts: unparsable and truncated 0, failed and skipped nothing at all."""
    if row["outcome"] in UNSCORED:
        return None
    return float(row["score"] or 0.0)
