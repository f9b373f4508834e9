"""How varied the trained responses are, and whether training has made them collapse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

REPEATED = 4
"""Length of the n-grams whose repetition is counted."""
DISTINCT = (1, 2)
"""Lengths of the n-grams whose variety is counted."""


def variety(responses: Sequence[Sequence[int]]) -> dict[str, float | None]:
    """Numbers of a step's responses, as token ids; None where all are too short.

    ``repeated_4grams``: share of the 4-grams that stood before in the same response, over all
    responses. ``distinct_1``, ``distinct_2``: different n-grams of all responses together, over all
    n-grams (Li et al. 2016, arXiv 1510.03055).
    """
    repeated = total = 0
    for ids in responses:
        grams = _grams(ids, REPEATED)
        repeated += len(grams) - len(set(grams))
        total += len(grams)
    share = repeated / total if total else None
    found: dict[str, float | None] = {f"repeated_{REPEATED}grams": share}
    for n in DISTINCT:
        every = [gram for ids in responses for gram in _grams(ids, n)]
        found[f"distinct_{n}"] = len(set(every)) / len(every) if every else None
    return found


def _grams(ids: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]


@dataclass(frozen=True)
class Collapse:
    """That responses have collapsed: at which optimiser step (1-based) it showed, and by what."""

    step: int
    sign: str
    before: float
    now: float

    def __str__(self) -> str:
        return f"{self.sign} went from {self.before:.2f} to {self.now:.2f} by step {self.step}"


WINDOW = 5
"""Steps whose median is compared with the median of as many first ones."""


@dataclass(frozen=True)
class _Sign:
    """One sign of collapse: a column of train.jsonl, and how far it must have gone."""

    column: str
    words: str
    rises: bool
    by: float
    beyond: float

    def seen(self, before: float, now: float) -> bool:
        if self.rises:
            return now - before > self.by and now > self.beyond
        return before - now > self.by and now < self.beyond


SIGNS = (
    _Sign("repeated_4grams", "the share of repeated 4-grams", True, by=0.25, beyond=0.5),
    _Sign("distinct_1", "the share of distinct tokens", False, by=0.05, beyond=0.01),
    _Sign("eos_rate", "the share of responses that end by themselves", False, by=0.4, beyond=0.2),
    _Sign("student_mass", "the student's probability on the support", False, by=0.3, beyond=0.6),
    _Sign("student_entropy", "the student's entropy in nats", True, by=2.5, beyond=4.0),
)
"""Each is a change of its own run, so that what a base model does anyway is no collapse.

The last two are the leak of a truncated reverse KL, whose responses grow random before they loop.
"""


def collapse(rows: Sequence[Mapping[str, Any]]) -> Collapse | None:
    """The first sign of collapse in a run's training rows, in their order; None if there is none.

    Compared are medians of ``WINDOW`` steps with those of the first ones, so that one odd step is
    none. Where a method has stages, each is compared with its own first steps.
    """
    found = (newest(rows[:end]) for end in range(1, len(rows) + 1))
    return next((one for one in found if one is not None), None)


def newest(rows: Sequence[Mapping[str, Any]]) -> Collapse | None:
    """A sign of collapse that the last of the rows completes."""
    stage = rows[-1].get("stage", 1)
    begins = next(i for i, row in enumerate(rows) if row.get("stage", 1) == stage)
    if len(rows) - begins < 2 * WINDOW:
        return None
    for sign in SIGNS:
        first = _median(rows[begins : begins + WINDOW], sign.column)
        last = _median(rows[-WINDOW:], sign.column)
        if first is not None and last is not None and sign.seen(first, last):
            return Collapse(int(rows[-1]["step"]), sign.words, first, last)
    return None


def _median(rows: Sequence[Mapping[str, Any]], column: str) -> float | None:
    values = [row[column] for row in rows if row.get(column) is not None]
    return median(values) if values else None
