"""Division of a data set's rows into train, dev and test, disjoint by normalised content."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from opcd_bench.envs.task import SPLITS, Example, Split
from opcd_bench.errors import DataError
from opcd_bench.hashing import digest
from opcd_bench.seeds import seed_of

T = TypeVar("T")

FIRST_CHOICE: tuple[Split, ...] = ("test", "dev", "train")
"""Of an item that several splits have, the first of these keeps it."""

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
) -> dict[Split, list[T]]:
    """Rows by split, in the order of a hash of their content, no content twice anywhere.

    ``pools`` are the splits that the set has; one that it lacks is carved from train, or from the
    only pool. Content is ``text``, normalised; of rows that share it the first of the first split
    in ``FIRST_CHOICE`` stays. Rows of one ``group`` (by default those of one content) never lie in
    two splits. ``sizes``: most rows of a split (None: all). A pool too small for what is carved
    gives three quarters of itself, in proportion. Raises DataError for a split without a row.
    """
    source: Split = "train" if "train" in pools else next(iter(pools))
    found = {split: _distinct(name, pool, text, group) for split, pool in pools.items()}
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


def _distinct(
    name: str,
    pool: Iterable[T],
    text: Callable[[T], str],
    group: Callable[[T], str] | None,
) -> list[_Item[T]]:
    """The pool's rows without repeats, whole groups together, in the order of their hashes."""
    seen: set[str] = set()
    items: dict[int, _Item[T]] = {}
    for row in pool:
        content = text(row)
        if content in seen:  # DAPO-Math-17k has every row a hundred times
            continue
        seen.add(content)
        key = seed_of("data", name, normalised(content))
        together = key if group is None else seed_of("group", name, group(row))
        items.setdefault(key, _Item(key, together, row))
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
