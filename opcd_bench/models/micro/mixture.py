"""The pre-training mixture: named generators with shares, drawn in the same order from one seed."""

from __future__ import annotations

import importlib
import random
import re
from collections.abc import Mapping

from opcd_bench.envs.worlds.conversation import Conversation, Generator
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
"""``module.function`` of ``opcd_bench.envs.worlds`` -> share of the conversations drawn."""

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

FINAL_SHARES: Mapping[str, float] = {
    **LATER_SHARES,
    "rule_math.draw": 0.18,
    "rule_math.draw_recall": 0.02,
    "rule_math.draw_drill": 0.04,
    "games_recall.draw": 0.03,
    "games_recall.draw_on_board": 0.12,
}
"""Shares from ``FINAL_CHUNK`` on: a control was found when asked for, yet not behind a board."""

FINAL_CHUNK = 86

BRACKET_CHUNK = 65
LETTER_CHUNK = 98
"""How a control was worded: ``down is [q]`` before ``BRACKET_CHUNK``, then ``down [q]``, and from
``LETTER_CHUNK`` on ``down p``, the letter right behind its direction. Of the first two nothing but
"one of the letters" was learnt in 24 M tokens. Earlier chunks keep the earlier words and letters,
so that the recipe gives the weights that were shipped."""

_EARLIER_LETTER = dict(zip("ghlmnoprstwy", "ghjkmnqrtvxz", strict=True))
_STEP = re.compile(r"\b(up|down|left|right) ([ghlmnoprstwy]) \[\2\]")
_CONTROL = re.compile(r"\b(up|down|left|right) ([ghlmnoprstwy])\.")
_BRACKETED = re.compile(r"\[([ghlmnoprstwy])\]")
_DIRECTED = re.compile(r"\b(up|down|left|right) (\[\w\])")


def _earlier_words(text: str, chunk: int) -> str:
    text = _CONTROL.sub(r"\1 [\2].", _STEP.sub(r"\1 [\2]", text))
    text = _BRACKETED.sub(lambda found: f"[{_EARLIER_LETTER[found[1]]}]", text)
    return text if chunk >= BRACKET_CHUNK else _DIRECTED.sub(r"\1 is \2", text)


def _in_earlier_words(drawn: Conversation, chunk: int) -> Conversation:
    messages = tuple({**m, "content": _earlier_words(m["content"], chunk)} for m in drawn.messages)
    return Conversation(drawn.kind, messages, _earlier_words(drawn.reply, chunk))


def generators(shares: Mapping[str, float] = SHARES) -> dict[str, Generator]:
    """The generators that ``shares`` names, imported now."""
    found: dict[str, Generator] = {}
    for name in shares:
        module, _, function = name.partition(".")
        found[name] = getattr(importlib.import_module(f"opcd_bench.envs.worlds.{module}"), function)
    return found


def conversations(
    seed: int, chunk: int, count: int, shares: Mapping[str, float] = SHARES
) -> list[Conversation]:
    """The ``chunk``-th batch of ``count`` conversations; a function of its arguments alone."""
    rng = random.Random(seed_of("micro-pretrain", seed, chunk))
    every = generators(shares)
    names = rng.choices(list(shares), weights=list(shares.values()), k=count)
    drawn = [every[name](rng) for name in names]
    return drawn if chunk >= LETTER_CHUNK else [_in_earlier_words(one, chunk) for one in drawn]
