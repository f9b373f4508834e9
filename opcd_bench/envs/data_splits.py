"""Division of a data set's rows into train, dev and test, disjoint by normalised content."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from opcd_bench.envs.data_files import place_of
from opcd_bench.envs.task import SPLITS, Example, Split
from opcd_bench.errors import DataError, DataWarning
from opcd_bench.hashing import digest
from opcd_bench.seeds import seed_of

T = TypeVar("T")

FIRST_CHOICE: tuple[Split, ...] = ("test", "dev", "train")
"""Of an item that several splits have, the first of these keeps it."""

SHOWN = 3
"""Questions with two answers that a warning names."""

KEPT_FOR_TRAIN = 0.25
"""Least share of a pool that carving leaves to the split that it is carved from."""


@dataclass(frozen=True)
class _Item(Generic[T]):
    key: int
    group: int
    row: T

    @property
    def marks(self) -> tuple[tuple[str, int], ...]:
        """What no other split may have."""
        return ("content", self.key), ("group", self.group)


def normalised(text: str) -> str:
    """``text`` as contents are compared: NFKC, without case, one space for any white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def divided(
    name: str,
    pools: Mapping[Split, Iterable[T]],
    *,
    text: Callable[[T], str],
    sizes: Mapping[Split, int | None],
    group: Callable[[T], str] | None = None,
    answer: Callable[[T], str] | None = None,
) -> dict[Split, list[T]]:
    """Rows by split, in the order of a hash of their content, no content twice anywhere.

    ``pools`` are the splits that the set has; one that it lacks is carved from train, or from the
    only pool. Content is ``text``, normalised; of rows that share it the first of the first split
    in ``FIRST_CHOICE`` stays. Rows of one ``group`` (by default those of one content) never lie in
    two splits. ``sizes``: most rows of a split (None: all). A pool too small for what is carved
    gives three quarters of itself, in proportion. Raises DataError for a split without a row; a
    DataWarning names rows of one content whose ``answer`` differs.
    """
    source: Split = "train" if "train" in pools else next(iter(pools))
    answers = None if answer is None else _Answers(name, answer)
    found = {split: _distinct(name, pools[split], text, group, answers) for split in _order(pools)}
    found = {split: found[split] for split in pools}
    if answers is not None:
        answers.warn()
    room = _carved_sizes(sizes, pools, source, len(found[source]))
    taken: set[tuple[str, int]] = set()
    splits: dict[Split, list[T]] = {}
    for split in FIRST_CHOICE:
        pool = found.get(split, found[source])
        free = [item for item in pool if taken.isdisjoint(item.marks)]
        kept = free if room[split] is None else free[: room[split]]
        taken.update(mark for item in kept for mark in item.marks)
        splits[split] = [item.row for item in sorted(kept, key=lambda item: item.key)]
        if not kept:
            raise DataError(
                f"data set {name!r}: no row is left for {split} (rows by pool, without "
                "duplicates: "
                f"{', '.join((f'{key} {len(pool)}' for key, pool in found.items()))}); give it "
                "more rows"
            )
    return {split: splits[split] for split in SPLITS}


def _order(pools: Mapping[Split, object]) -> list[Split]:
    """The pools, those first that keep what several have."""
    return [split for split in FIRST_CHOICE if split in pools]


class _Answers(Generic[T]):
    """The answers to what a data set asks, and the rows that answer it otherwise than the first."""

    def __init__(self, name: str, answer: Callable[[T], str]) -> None:
        self.name, self.answer = name, answer
        self.first: dict[int, tuple[str, T]] = {}
        self.others: dict[int, tuple[str, T]] = {}

    def note(self, key: int, row: T) -> None:
        """Take down the answer to the content ``key``."""
        found = self.answer(row)
        if self.first.setdefault(key, (found, row))[0] != found:
            self.others.setdefault(key, (found, row))

    def warn(self) -> None:
        """Say which contents have two answers."""
        if not self.others:
            return
        pairs = [
            f"{_told(*self.first[key])} and {_told(*other)}" for key, other in self.others.items()
        ]
        more = f"; and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
        warnings.warn(
            f"data set {self.name!r}: {len(pairs)} question{'s' * (len(pairs) > 1)} with two "
            f"answers, of which the first is kept: {'; '.join(pairs[:SHOWN])}{more}. Correct them "
            "in the data, or remove one of each",
            DataWarning,
            stacklevel=2,
        )


def _told(answer: str, row: object) -> str:
    place = place_of(row)
    return f"{answer[:40]!r}" + ("" if place is None else f" ({place})")


def _distinct(
    name: str,
    pool: Iterable[T],
    text: Callable[[T], str],
    group: Callable[[T], str] | None,
    answers: _Answers[T] | None,
) -> list[_Item[T]]:
    """The pool's rows without repeats, whole groups together, in the order of their hashes."""
    keys: dict[str, int] = {}
    items: dict[int, _Item[T]] = {}
    for row in pool:
        content = text(row)
        if content not in keys:  # DAPO-Math-17k has every row a hundred times
            key = keys[content] = seed_of("data", name, normalised(content))
            together = key if group is None else seed_of("group", name, group(row))
            items.setdefault(key, _Item(key, together, row))
        if answers is not None:
            answers.note(keys[content], row)
    return sorted(items.values(), key=lambda item: (item.group, item.key))


def _carved_sizes(
    sizes: Mapping[Split, int | None],
    pools: Mapping[Split, object],
    source: Split,
    rows: int,
) -> dict[Split, int | None]:
    """How many rows each split may have, so that a small pool serves all that share it."""
    users = [split for split in SPLITS if split == source or split not in pools]
    carved = [split for split in users if split != "train"]
    wanted = sum(sizes[split] or 0 for split in carved)
    room = dict(sizes)
    if len(users) > 1 and wanted > rows * (1 - KEPT_FOR_TRAIN):
        for split in carved:
            share = (sizes[split] or 0) / wanted
            room[split] = max(1, int(share * rows * (1 - KEPT_FOR_TRAIN)))
    return room


def fingerprint(splits: Mapping[Split, Sequence[Example]]) -> str:
    """Ten hex digits of all examples' ids, their references and hints, in order.

    A task that reads data names it in its options: where the files lie changes no number, what is
    in them does.
    """
    return digest(
        {
            split: [[one.id, one.reference, one.hint] for one in examples]
            for split, examples in splits.items()
        }
    )
