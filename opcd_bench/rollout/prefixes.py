"""Prefixes that many prompts share: which to share, and their keys and values, computed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache

from opcd_bench.models import cpu, shards
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.rollout.attention import Prefix, Segment
from opcd_bench.rollout.kv import as_argument, held

Ids = tuple[int, ...]

_BLOCK = 16
"""Prefixes end at a multiple of so many tokens: prompts that happen to share a few more give the
same prefix again, whose keys and values are there already."""
_SHARE_FROM = 64
"""A shared prefix pays from about this many token computations saved."""
_KEPT = 2**30
"""Bytes of keys and values that are kept beyond those in use."""


def shared_prefixes(prompts: Iterable[Ids]) -> dict[Ids, Ids]:
    """The prefix of each distinct prompt that it should share with others; () where none pays.

    Prompts are cut, in alphabetical order, wherever neighbours share less than some length; the
    length is the one that saves most. A prefix is shorter than each of its prompts. Depends on the
    prompts alone, with how often each occurs.
    """
    ordered = sorted(prompts)
    common = [0] + [_common(a, b) for a, b in pairwise(ordered)]
    best: list[tuple[int, int, int]] = []
    most = 0
    for least in sorted(set(common) - {0}):
        found = list(_groups(ordered, common, least))
        saved = sum(length * (end - begin - 1) - _SHARE_FROM for begin, end, length in found)
        if saved >= most:
            best, most = found, saved
    prefixes: dict[Ids, Ids] = dict.fromkeys(ordered, ())
    for begin, end, length in best:
        if length * (end - begin - 1) >= _SHARE_FROM:
            prefix = ordered[begin][:length]
            prefixes.update((prompt, prefix) for prompt in ordered[begin:end])
    return prefixes


def _common(first: Ids, second: Ids) -> int:
    """Tokens that both begin with, in whole blocks, less than either has."""
    shortest = min(len(first), len(second))
    if first[:shortest] == second[:shortest]:
        same = shortest - 1
    else:
        same = next(i for i in range(shortest) if first[i] != second[i])
    return max(same, 0) // _BLOCK * _BLOCK


def _groups(
    ordered: Sequence[Ids], common: Sequence[int], least: int
) -> Iterable[tuple[int, int, int]]:
    """Runs of prompts whose neighbours share ``least`` tokens at least: begin, end, shared."""
    cuts = [i for i, same in enumerate(common) if same < least] + [len(ordered)]
    for begin, end in pairwise(cuts):
        if end - begin > 1:
            yield begin, end, min(common[begin + 1 : end])


class Prefixes:
    """The prefixes of one model's prompts, read at most once while its weights stay as they are.

    Reads nothing ahead where the model's attention is not plain (``cpu.plain``): ``plan`` then
    shares nothing, and every prompt is read whole.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._plain = cpu.plain(loaded.model)
        self._of: dict[Ids, Ids] = {}
        self._read: dict[Ids, Prefix] = {}

    def plan(self, prompts: Iterable[Ids]) -> None:
        """Settle which prefix each of the prompts shares; earlier plans are forgotten."""
        self._of = shared_prefixes(prompts) if self._plain else {}

    def plan_ahead(self, prompts: Sequence[Ids], processes: int) -> None:
        """The same, and read them now, for a sharded model: its processes pass it together.

        All processes give the same prompts, read every prefix, and then score a share of the
        prompts each; prefixes that do not pay so are not shared. Those that save most come first;
        once ``_KEPT`` bytes are read, the other prompts share nothing. The plan depends on the
        prompts alone, whatever was read before, so that a resumed run has the same.
        """
        self.plan(prompts)
        uses = Counter(prefix for prompt in prompts if (prefix := self.of(prompt)))
        saved = {it: len(it) * (count / processes - 1) for it, count in uses.items()}
        pays = {it for it in uses if saved[it] >= _SHARE_FROM}
        read: set[Ids] = set()
        size = 0
        for prefix in sorted(pays, key=lambda it: (-saved[it], it)):
            if size > _KEPT:
                break
            self._read_now(prefix, pays)
            read.add(prefix)
            size += _bytes(self._read[prefix])
        self._of = {p: prefix if prefix in read else () for p, prefix in self._of.items()}

    def of(self, prompt: Ids) -> Ids:
        """The prefix that a prompt shares by the plan; () if none."""
        return self._of.get(prompt, ())

    def forget(self) -> None:
        """The weights have moved: what was read is read no more."""
        self._read.clear()

    def segments(self, prompts: Sequence[Ids]) -> list[Segment]:
        """The prefixes of a batch whose prompts with equal prefixes are neighbours."""
        runs = [(prefix, len(list(run))) for prefix, run in groupby(map(self.of, prompts))]
        used = {prefix for prefix, _ in runs if prefix}
        for prefix in sorted(used):
            self._read_now(prefix, used)
        return [Segment(n, self._read[prefix] if prefix else None) for prefix, n in runs]

    def _read_now(self, prefix: Ids, used: set[Ids]) -> None:
        """Read a prefix that is not there; the oldest that are not used go for it."""
        if prefix not in self._read:
            self._make_room(used)
            self._read[prefix] = self._forward(prefix)

    def _make_room(self, used: set[Ids]) -> None:
        """Let go of the oldest prefixes that the batch does not use, beyond what may be kept."""
        spare = [key for key in self._read if key not in used]
        size = sum(_bytes(self._read[key]) for key in spare)
        for key in spare:
            if size <= _KEPT:
                break
            size -= _bytes(self._read.pop(key))

    @torch.no_grad()
    def _forward(self, ids: Ids) -> Prefix:
        model: Any = self._loaded.model
        cache: Cache = DynamicCache(config=model.config)
        id_row = torch.tensor([ids], device=model.device)
        shards.decoder(model)(input_ids=id_row, use_cache=True, **as_argument(model, cache))
        return Prefix(tuple(held(cache)), len(ids))


def _bytes(prefix: Prefix) -> int:
    return sum(t.numel() * t.element_size() for pair in prefix.layers for t in pair)
