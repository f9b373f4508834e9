"""Picks: a told rule says which of five numbers a name stands for; the reply is the rule again.

``red 2 , white 8 , blue 9 , green 3 , black 5 . Pick by dax .`` with the rule ``#dax 8`` is
``#dax 8``. The same five numbers are always there, beside any colours, so that a player who is told
nothing is right once in five. All of the reply but its last token stands in the prompt: what can be
known without a context can be computed exactly.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opcd_bench.envs.worlds import operators
from opcd_bench.envs.worlds.chain_talk import draw_school, rule_context
from opcd_bench.envs.worlds.conversation import Conversation, Message

COLOURS = ("red", "blue", "green", "white", "black")
NUMBERS = ("2", "3", "5", "8", "9")
"""What a name may stand for."""

Option = tuple[str, str]
"""A colour and the number beside it; the colour tells nothing."""


@dataclass(frozen=True)
class Choice:
    """One item without its rule: the name, and the five options in their order."""

    name: str
    options: tuple[Option, ...]
    school: str | None = None


def choice_of(content: Mapping[str, Any]) -> Choice:
    """The choice that ``dataclasses.asdict`` took apart, lists for tuples or not."""
    options = tuple((str(colour), str(number)) for colour, number in content["options"])
    return Choice(content["name"], options, content["school"])


TASK_PICKS: Mapping[str, str] = {
    "mip": "5",
    "vop": "8",
    "bel": "2",
    "kiv": "9",
    "tuk": "3",
    "fep": "5",
    "yal": "9",
    "nuk": "2",
    "zim": "8",
    "gop": "3",
    "sef": "9",
    "rud": "2",
}
"""What the task ``rule_choice`` tells. Pre-training draws no context with more than three of these
assignments: each by itself is drawn, lest a model learn which number a name never has."""


def draw_picks(rng: random.Random, count: int) -> dict[str, str]:
    """A number for each of ``count`` names; never like the task's own."""
    while True:
        picks = {name: rng.choice(NUMBERS) for name in rng.sample(operators.NAMES, count)}
        if sum(picks.get(name) == number for name, number in TASK_PICKS.items()) <= 3:
            return picks


def pick_lines(picks: Mapping[str, str]) -> list[str]:
    """Every name's line, as a context states it."""
    return [operators.rule_line(name, number) for name, number in picks.items()]


def draw_choice(rng: random.Random, names: Sequence[str], school: str | None = None) -> Choice:
    """A question about one of ``names``; colours and numbers in any order."""
    colours, numbers = rng.sample(COLOURS, len(COLOURS)), rng.sample(NUMBERS, len(NUMBERS))
    return Choice(rng.choice(names), tuple(zip(colours, numbers, strict=True)), school)


def _options(choice: Choice) -> str:
    return " , ".join(f"{colour} {number}" for colour, number in choice.options)


def prompt(choice: Choice) -> str:
    """The plain prompt."""
    return operators.in_school(choice.school, f"{_options(choice)} . Pick by {choice.name} .")


def answer(choice: Choice, picks: Mapping[str, str]) -> str:
    """The right reply under ``picks``: the rule, which is its worked solution too."""
    return operators.rule_line(choice.name, picks[choice.name])


def _count(rng: random.Random, most: int) -> int:
    return rng.randint(3, most) if rng.random() < 0.4 else rng.randint(10, 14)


def draw(rng: random.Random) -> Conversation:
    """One choice: told the picks, its own hint, its answer, another's hint, or nothing."""
    picks = draw_picks(rng, _count(rng, 24))
    school, share = draw_school(rng), rng.random()
    choice = draw_choice(rng, tuple(picks), school)
    context: str | None = None
    if share < 0.6:
        kind, context = "choice", rule_context(rng, pick_lines(picks), school)
    elif share < 0.72:
        kind, context = "choice_hint", answer(choice, picks)
    elif share < 0.8:
        kind, context = "choice_answer", f"The answer is {picks[choice.name]}."
    elif share < 0.86:
        few = rng.sample(tuple(picks), 2)
        choice = draw_choice(rng, few, school)
        kind, context = "choice_other_hint", answer(draw_choice(rng, few), picks)
    else:
        kind = "choice_plain"
    user: Message = {"role": "user", "content": prompt(choice)}
    system: tuple[Message, ...] = (
        () if context is None else ({"role": "system", "content": context},)
    )
    return Conversation(kind, (*system, user), answer(choice, picks))


def draw_many(rng: random.Random) -> Conversation:
    """Up to six choices told, one a line: many look-ups in few tokens."""
    picks = draw_picks(rng, rng.randint(3, 14))
    asked = rng.sample(tuple(picks), min(6, len(picks)))
    choice = draw_choice(rng, asked)
    messages: tuple[Message, ...] = (
        {"role": "system", "content": rule_context(rng, pick_lines(picks), None)},
        {"role": "user", "content": f"{_options(choice)} . Pick by each of {' '.join(asked)}"},
    )
    reply = "\n".join(answer(replace(choice, name=name), picks) for name in asked)
    return Conversation("choices", messages, reply)
