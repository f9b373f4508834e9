"""The pre-training mixture: named generators with shares, drawn in the same order from one seed."""

from __future__ import annotations

import importlib
import random
from collections.abc import Mapping

from opcd_bench.micro.world.conversation import Conversation, Generator
from opcd_bench.seeds import seed_of

SHARES: Mapping[str, float] = {
    "rule_math.draw": 0.28,
    "rule_math.draw_recall": 0.07,
    "rule_math.draw_drill": 0.06,
    "rule_math.draw_reflection": 0.03,
    "lake.draw": 0.24,
    "sokoban.draw": 0.12,
    "games_reflection.draw": 0.03,
    "instructions.draw": 0.17,
}
"""``module.function`` of ``opcd_bench.micro.world`` -> share of the conversations drawn."""


def generators(shares: Mapping[str, float] = SHARES) -> dict[str, Generator]:
    """The generators that ``shares`` names, imported now."""
    found: dict[str, Generator] = {}
    for name in shares:
        module, _, function = name.partition(".")
        found[name] = getattr(importlib.import_module(f"opcd_bench.micro.world.{module}"), function)
    return found


def conversations(
    seed: int, chunk: int, count: int, shares: Mapping[str, float] = SHARES
) -> list[Conversation]:
    """The ``chunk``-th batch of ``count`` conversations; a function of its arguments alone."""
    rng = random.Random(seed_of("micro-pretrain", seed, chunk))
    every = generators(shares)
    names = rng.choices(list(shares), weights=list(shares.values()), k=count)
    return [every[name](rng) for name in names]
