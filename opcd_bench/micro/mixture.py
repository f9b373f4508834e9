"""The pre-training mixture: named generators with shares, drawn in the same order from one seed."""

from __future__ import annotations

import importlib
import random
import re
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

LATER_SHARES: Mapping[str, float] = {
    "rule_math.draw": 0.20,
    "rule_math.draw_recall": 0.03,
    "rule_math.draw_drill": 0.06,
    "rule_math.draw_reflection": 0.03,
    "lake.draw": 0.22,
    "sokoban.draw": 0.12,
    "games_reflection.draw": 0.04,
    "games_recall.draw": 0.10,
    "instructions.draw": 0.20,
}
"""Shares from ``LATER_CHUNK`` on: after 12 M tokens the rules of arithmetic were found in the
context, a board was read and a way planned, but the control of a direction was still guessed."""

LATER_CHUNK = 50

WORDING_CHUNK = 65
"""From here on a control is worded ``down [q]``; before, it was ``down is [q]``: its letter stood
one token too far from its direction: 16 M tokens did not teach that look-up. Earlier chunks keep
the earlier words, so that the recipe gives the weights that were shipped."""

_CONTROL = re.compile(r"\b(up|down|left|right) \[(\w)\]")


def _in_earlier_words(drawn: Conversation) -> Conversation:
    messages = tuple(
        {**m, "content": _CONTROL.sub(r"\1 is [\2]", m["content"])} for m in drawn.messages
    )
    return Conversation(drawn.kind, messages, _CONTROL.sub(r"\1 is [\2]", drawn.reply))


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
    drawn = [every[name](rng) for name in names]
    return drawn if chunk >= WORDING_CHUNK else [_in_earlier_words(one) for one in drawn]
