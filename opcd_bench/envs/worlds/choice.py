"""Picks: a told rule says which mark a name stands for; the reply is the colour beside that mark.

``ring green , star red , wave white , moon blue , leaf black . Pick by dax .`` with the rule
``#dax moon`` is ``blue``. Five marks and five colours are always there, in any order, so that a
player who is told nothing is right once in five, and what can be known without a context can be
computed exactly.
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
MARKS = ("star", "moon", "ring", "leaf", "wave")
"""What a name may stand for."""

Option = tuple[str, str]
"""A mark and the colour beside it."""


@dataclass(frozen=True)
class Choice:
    """One item without its rule: the name, and the five options in their order."""

    name: str
    options: tuple[Option, ...]
    school: str | None = None


def choice_of(content: Mapping[str, Any]) -> Choice:
    """The choice that ``dataclasses.asdict`` took apart, lists for tuples or not."""
    options = tuple((str(mark), str(colour)) for mark, colour in content["options"])
    return Choice(content["name"], options, content["school"])


TASK_PICKS: Mapping[str, str] = {
    "mip": "ring",
    "vop": "leaf",
    "bel": "star",
    "kiv": "wave",
    "tuk": "moon",
    "fep": "ring",
    "yal": "wave",
    "nuk": "star",
    "zim": "leaf",
    "gop": "moon",
    "sef": "wave",
    "rud": "star",
}
"""What the task ``rule_choice`` tells. Pre-training draws no context with more than three of these
assignments: each by itself is drawn, lest a model learn which mark a name never has."""


def draw_picks(rng: random.Random, count: int) -> dict[str, str]:
    """A mark for each of ``count`` names; never like the task's own."""
    while True:
        picks = {name: rng.choice(MARKS) for name in rng.sample(operators.NAMES, count)}
        if sum(picks.get(name) == mark for name, mark in TASK_PICKS.items()) <= 3:
            return picks


def pick_lines(picks: Mapping[str, str]) -> list[str]:
    """Every name's line, as a context states it."""
    return [operators.rule_line(name, mark) for name, mark in picks.items()]


def draw_choice(rng: random.Random, names: Sequence[str], school: str | None = None) -> Choice:
    """A question about one of ``names``; marks and colours in any order."""
    marks, colours = rng.sample(MARKS, len(MARKS)), rng.sample(COLOURS, len(COLOURS))
    return Choice(rng.choice(names), tuple(zip(marks, colours, strict=True)), school)


def _options(choice: Choice) -> str:
    return " , ".join(f"{mark} {colour}" for mark, colour in choice.options)


def prompt(choice: Choice) -> str:
    """The plain prompt."""
    return operators.in_school(choice.school, f"{_options(choice)} . Pick by {choice.name} .")


def answer(choice: Choice, picks: Mapping[str, str]) -> str:
    """The right colour under ``picks``."""
    return dict(choice.options)[picks[choice.name]]


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


def _each(rng: random.Random, names: Sequence[str], picks: Mapping[str, str]) -> tuple[str, str]:
    """A question that asks up to six of ``names`` of the same options, and its reply."""
    asked = rng.sample(names, min(6, len(names)))
    choice = draw_choice(rng, names)
    question = "\n".join([f"{_options(choice)} . Pick by each", *asked])
    return question, "\n".join(answer(replace(choice, name=name), picks) for name in asked)


def draw_many(rng: random.Random) -> Conversation:
    """Up to six choices told, one a line: many look-ups in few tokens."""
    picks = draw_picks(rng, rng.randint(3, 14))
    question, reply = _each(rng, tuple(picks), picks)
    messages: tuple[Message, ...] = (
        {"role": "system", "content": rule_context(rng, pick_lines(picks), None)},
        {"role": "user", "content": question},
    )
    return Conversation("choices", messages, reply)


def draw_spelled(rng: random.Random) -> Conversation:
    """Choices whose question says the marks themselves, one or five: a choice's second half."""
    picks = {mark: mark for mark in MARKS}
    choice = draw_choice(rng, MARKS)
    question, reply = prompt(choice), answer(choice, picks)
    if rng.random() < 0.5:
        question, reply = _each(rng, MARKS, picks)
    return Conversation("choices_spelled", ({"role": "user", "content": question},), reply)


def draw_looked_up(rng: random.Random) -> Conversation:
    """What six names stand for under told rules: the first half of a choice, by itself."""
    picks = draw_picks(rng, rng.randint(6, 14))
    asked = rng.sample(tuple(picks), 6)
    messages: tuple[Message, ...] = (
        {"role": "system", "content": rule_context(rng, pick_lines(picks), None)},
        {"role": "user", "content": "\n".join(["Say for each", *asked])},
    )
    return Conversation("choices_looked_up", messages, "\n".join(picks[name] for name in asked))
