"""Picks: a told rule says which of five colours to take; the reply is that colour, one token.

``red 7 , blue 3 , green 9 , white 5 , black 2 . Pick by dax .`` with the rule ``#dax largest`` is
``green``. Five colours are always there, in any order, with five different digits, so that a
player who is told nothing is right once in five, and what can be known without a context can be
computed exactly.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opcd_bench.envs.worlds import operators
from opcd_bench.envs.worlds.chain_talk import draw_school, rule_context
from opcd_bench.envs.worlds.conversation import Conversation, Message

COLOURS = ("red", "blue", "green", "white", "black")
Option = tuple[str, int]
"""A colour and its digit."""

PICKS: Mapping[str, Callable[[Sequence[Option]], Option]] = {
    "first": lambda options: options[0],
    "second": lambda options: options[1],
    "third": lambda options: options[2],
    "fourth": lambda options: options[3],
    "last": lambda options: options[4],
    "largest": lambda options: max(options, key=lambda one: one[1]),
    "smallest": lambda options: min(options, key=lambda one: one[1]),
}
"""What a name may mean: how an option is picked."""


@dataclass(frozen=True)
class Choice:
    """One item without its rule: the name, and the five options in their order."""

    name: str
    options: tuple[Option, ...]
    school: str | None = None


def choice_of(content: Mapping[str, Any]) -> Choice:
    """The choice that ``dataclasses.asdict`` took apart, lists for tuples or not."""
    options = tuple((str(colour), int(digit)) for colour, digit in content["options"])
    return Choice(content["name"], options, content["school"])


TASK_PICKS: Mapping[str, str] = {
    "mip": "smallest",
    "vop": "third",
    "bel": "largest",
    "kiv": "last",
    "tuk": "second",
    "fep": "smallest",
    "yal": "first",
    "nuk": "fourth",
    "zim": "largest",
    "gop": "third",
    "sef": "second",
    "rud": "last",
}
"""What the task ``rule_choice`` tells. Pre-training draws no context with more than three of these
assignments: each by itself is drawn, lest a model learn which pick a name never has."""


def draw_picks(rng: random.Random, count: int) -> dict[str, str]:
    """A pick for each of ``count`` names; never like the task's own."""
    while True:
        picks = {name: rng.choice(tuple(PICKS)) for name in rng.sample(operators.NAMES, count)}
        if sum(picks.get(name) == pick for name, pick in TASK_PICKS.items()) <= 3:
            return picks


def pick_lines(picks: Mapping[str, str]) -> list[str]:
    """Every pick's line, as a context states it."""
    return [operators.rule_line(name, pick) for name, pick in picks.items()]


def draw_choice(rng: random.Random, names: Sequence[str], school: str | None = None) -> Choice:
    """A question about one of ``names``; colours and digits in any order."""
    colours, digits = rng.sample(COLOURS, len(COLOURS)), rng.sample(range(1, 10), len(COLOURS))
    return Choice(rng.choice(names), tuple(zip(colours, digits, strict=True)), school)


def draw_spelled(rng: random.Random) -> Conversation:
    """Six choices whose question says the pick itself: the second half of a choice, by itself."""
    picks = {pick: pick for pick in PICKS}
    asked = [draw_choice(rng, tuple(picks)) for _ in range(6)]
    question = "\n".join(["Pick for each", *(_asked(one) for one in asked)])
    user: Message = {"role": "user", "content": question}
    return Conversation("choices_spelled", (user,), "\n".join(answer(one, picks) for one in asked))


def draw_looked_up(rng: random.Random) -> Conversation:
    """What six names mean under told rules: the first half of a choice, by itself."""
    picks = draw_picks(rng, rng.randint(6, 14))
    asked = rng.sample(tuple(picks), 6)
    messages: tuple[Message, ...] = (
        {"role": "system", "content": rule_context(rng, pick_lines(picks), None)},
        {"role": "user", "content": "\n".join(["Say for each", *asked])},
    )
    return Conversation("choices_looked_up", messages, "\n".join(picks[name] for name in asked))


def _asked(choice: Choice) -> str:
    options = " , ".join(f"{colour} {digit}" for colour, digit in choice.options)
    return f"{options} . Pick by {choice.name}"


def prompt(choice: Choice) -> str:
    """The plain prompt."""
    return operators.in_school(choice.school, f"{_asked(choice)} .")


def answer(choice: Choice, picks: Mapping[str, str]) -> str:
    """The right colour under ``picks``."""
    return PICKS[picks[choice.name]](choice.options)[0]


def worked(choice: Choice, picks: Mapping[str, str]) -> str:
    """The worked solution, for a teacher that reads a hint: the rule, and what it picks."""
    return f"{operators.rule_line(choice.name, picks[choice.name])}\n{answer(choice, picks)}"


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
        kind, context = "choice_hint", worked(choice, picks)
    elif share < 0.8:
        kind, context = "choice_answer", f"The answer is {answer(choice, picks)}."
    elif share < 0.86:
        few = rng.sample(tuple(picks), 2)
        choice = draw_choice(rng, few, school)
        kind, context = "choice_other_hint", worked(draw_choice(rng, few), picks)
    else:
        kind = "choice_plain"
    user: Message = {"role": "user", "content": prompt(choice)}
    system: tuple[Message, ...] = (
        () if context is None else ({"role": "system", "content": context},)
    )
    return Conversation(kind, (*system, user), answer(choice, picks))


def draw_many(rng: random.Random) -> Conversation:
    """Six choices told, one a line: many look-ups in few tokens."""
    picks = draw_picks(rng, rng.randint(3, 14))
    asked = [draw_choice(rng, tuple(picks)) for _ in range(6)]
    question = "\n".join(["Pick for each", *(_asked(one) for one in asked)])
    messages: tuple[Message, ...] = (
        {"role": "system", "content": rule_context(rng, pick_lines(picks), None)},
        {"role": "user", "content": question},
    )
    return Conversation("choices", messages, "\n".join(answer(one, picks) for one in asked))
