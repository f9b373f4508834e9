"""The pre-training mixture: named generators with shares, drawn in the same order from one seed."""

from __future__ import annotations

import importlib
import random
from collections.abc import Mapping

from opcd_bench.envs.worlds.conversation import Conversation, Generator
from opcd_bench.seeds import seed_of

Shares = Mapping[str, float]
"""``module.function`` of ``opcd_bench.envs.worlds`` -> share of the conversations drawn."""

_OTHERS: Shares = {
    "chain_drills.draw_reflection": 0.03,
    "choice.draw": 0.06,
    "choice.draw_many": 0.03,
    "handbook_talk.draw": 0.08,
    "handbook_talk.draw_facts_said": 0.08,
    "handbook_talk.draw_many": 0.06,
    "lake.draw": 0.06,
    "sokoban.draw": 0.04,
    "games_reflection.draw": 0.03,
    "games_recall.draw": 0.03,
    "games_recall.draw_on_board": 0.02,
    "instructions.draw": 0.10,
}
"""What is drawn alike from the beginning to the end."""

FIRST: Shares = {
    **_OTHERS,
    "chain_talk.draw_few": 0.18,
    "chain_talk.draw_plain": 0.02,
    "chain_talk.draw_hint": 0.03,
    "chain_drills.draw_recall": 0.06,
    "chain_drills.draw_uses": 0.05,
    "chain_drills.draw_steps": 0.04,
}
"""Two to six rules and one or two operators, beside look-ups and elementary steps."""

SECOND: Shares = {
    **_OTHERS,
    "chain_talk.draw_few": 0.04,
    "chain_talk.draw_some": 0.13,
    "chain_talk.draw_plain": 0.03,
    "chain_talk.draw_hint": 0.05,
    "chain_talk.draw_rescue": 0.03,
    "chain_talk.draw_traces": 0.02,
    "chain_drills.draw_recall": 0.03,
    "chain_drills.draw_uses": 0.03,
    "chain_drills.draw_steps": 0.02,
}
"""Up to twelve rules and three operators."""

THIRD: Shares = {
    **_OTHERS,
    "chain_talk.draw_some": 0.04,
    "chain_talk.draw": 0.15,
    "chain_talk.draw_rescue": 0.03,
    "chain_talk.draw_plain": 0.04,
    "chain_talk.draw_hint": 0.05,
    "chain_talk.draw_traces": 0.02,
    "chain_drills.draw_recall": 0.02,
    "chain_drills.draw_uses": 0.02,
    "chain_drills.draw_steps": 0.01,
}
"""The whole: up to thirty rules and four operators."""

FOURTH: Shares = {
    "lake.draw": 0.18,
    "sokoban.draw": 0.12,
    "games_recall.draw": 0.12,
    "games_recall.draw_on_board": 0.06,
    "games_reflection.draw": 0.03,
    "instructions.draw": 0.11,
    "choice.draw": 0.04,
    "choice.draw_many": 0.02,
    "handbook_talk.draw": 0.05,
    "handbook_talk.draw_facts_said": 0.03,
    "handbook_talk.draw_many": 0.02,
    "chain_talk.draw_some": 0.02,
    "chain_talk.draw": 0.08,
    "chain_talk.draw_rescue": 0.02,
    "chain_talk.draw_plain": 0.02,
    "chain_talk.draw_hint": 0.03,
    "chain_talk.draw_traces": 0.01,
    "chain_drills.draw_recall": 0.01,
    "chain_drills.draw_uses": 0.01,
    "chain_drills.draw_reflection": 0.02,
}
"""Games: until here the control of a direction, a word of one letter, was looked up by chance."""

STAGES: tuple[tuple[int, Shares], ...] = ((0, FIRST), (24, SECOND), (64, THIRD), (185, FOURTH))
"""The curriculum: from which chunk of conversations on which shares hold."""

SOONER: tuple[tuple[int, Shares], ...] = (*STAGES[:-1], (135, FOURTH))
"""Of a larger model, which has learnt the third stage's chains in fewer tokens."""


def shares_of(chunk: int, stages: tuple[tuple[int, Shares], ...] = STAGES) -> Shares:
    """The shares of the ``chunk``-th batch of conversations."""
    return next(shares for first, shares in reversed(stages) if chunk >= first)


def generators(shares: Shares) -> dict[str, Generator]:
    """The generators that ``shares`` names, imported now."""
    found: dict[str, Generator] = {}
    for name in shares:
        module, _, function = name.partition(".")
        found[name] = getattr(importlib.import_module(f"opcd_bench.envs.worlds.{module}"), function)
    return found


def conversations(seed: int, chunk: int, count: int, shares: Shares) -> list[Conversation]:
    """The ``chunk``-th batch of ``count`` conversations; a function of its arguments alone."""
    rng = random.Random(seed_of("micro-pretrain", seed, chunk))
    every = generators(shares)
    names = rng.choices(list(shares), weights=list(shares.values()), k=count)
    return [every[name](rng) for name in names]
