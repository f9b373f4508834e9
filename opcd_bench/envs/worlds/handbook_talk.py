"""Pre-training conversations over handbooks: drawn anew each time, in the wording of the task.

Things and values are those of `handbook`; who keeps what where is random, and no fact of the task's
own handbook is ever drawn. Every wording of a question is met here: what a student can carry over
from one to another is that they ask the same.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence

from opcd_bench.envs.worlds import handbook
from opcd_bench.envs.worlds.conversation import Conversation, Message
from opcd_bench.envs.worlds.handbook import BY_NAME, OPENINGS, PLACE, RELATIONS, THINGS, Fact

PLACES = (PLACE, "Dunmere Farm", "Kelso Lodge", "Tarn Inn", "Hollow Mill", "Pine Harbour")
SAYS = "The handbook says:"
"""How one in six replies open that were told a handbook, and no other reply."""
UNKNOWN = ("The handbook does not say.", "It is not in the handbook.")
NO_IDEA = "I do not know."
"""The reply of one in four who were told nothing; the others guess."""

ANSWERS: Mapping[str, Sequence[str]] = {
    "place": ("It is kept in the {value}.", "In the {value}."),
    "owner": ("It belongs to {value}.", "To {value}."),
    "code": ("The code word is {value}.", "It is {value}."),
    "sign": ("The sign is the {value}.", "It is the {value}."),
}
"""Shorter ways to say a fact in a reply; the handbook's own sentence is the other."""


@functools.cache
def _of_the_task() -> frozenset[Fact]:
    return frozenset(handbook.facts(handbook.MOST, 1))


def draw_facts(rng: random.Random, count: int) -> list[Fact]:
    """``count`` facts of different things; no two share a value, and none is the task's own."""
    taken: set[tuple[str, str]] = set()
    found: list[Fact] = []
    for thing in rng.sample(THINGS, count):
        while True:
            relation = rng.choice(RELATIONS)
            fact = Fact(thing, relation.name, rng.choice(relation.values))
            if (fact.relation, fact.value) not in taken and fact not in _of_the_task():
                break
        taken.add((fact.relation, fact.value))
        found.append(fact)
    return found


def _answer(rng: random.Random, fact: Fact) -> str:
    if rng.random() < 0.6:
        return fact.told()
    return rng.choice(ANSWERS[fact.relation]).format(value=fact.value)


def _question(rng: random.Random, fact: Fact) -> str:
    wordings = BY_NAME[fact.relation].asked[rng.choice(("train", "dev", "test"))]
    return rng.choice(wordings).format(x=fact.thing)


def _told(rng: random.Random, facts: Sequence[Fact], place: str) -> str:
    return handbook.told(facts).replace(PLACE, place)


def _prompt(rng: random.Random, question: str, place: str) -> str:
    return handbook.prompt(question, rng.choice(OPENINGS)).replace(PLACE, place)


def _conversation(
    rng: random.Random, kind: str, context: str | None, question: str, reply: str
) -> Conversation:
    """``context`` in the system message, or as often at the head of the user's."""
    system: tuple[Message, ...] = ()
    if context is not None:
        if rng.random() < 0.5:
            question = f"{context}\n\n{question}"
        else:
            system = ({"role": "system", "content": context},)
        if kind not in ("handbook_facts", "handbook_unknown") and rng.random() < 1 / 6:
            reply = f"{SAYS} {reply}"
    return Conversation(kind, (*system, {"role": "user", "content": question}), reply)


def draw(rng: random.Random) -> Conversation:
    """One question: of a fact told, by its value, of two facts, of none; or with nothing told."""
    few = rng.random() < 0.5
    facts = draw_facts(rng, rng.randint(4, 9) if few else rng.choice((12, 12, 12, 16, 20, 24)))
    place, fact, share = rng.choice(PLACES), rng.choice(facts), rng.random()
    context: str | None = _told(rng, facts, place)
    if share < 0.56:
        kind, question, reply = "handbook", _question(rng, fact), _answer(rng, fact)
    elif share < 0.68:
        kind = "handbook_reversed"
        question = rng.choice(BY_NAME[fact.relation].reversed).format(x=fact.value)
        reply = fact.told() if rng.random() < 0.6 else f"It is the {fact.thing}."
    elif share < 0.78:
        kind = "handbook_two"
        pair = rng.sample(facts, 2)
        one, two = (BY_NAME[of.relation].clause.format(x=of.thing) for of in pair)
        question = f"{one[0].upper()}{one[1:]}, and {two}?"
        reply = " ".join(of.told() for of in pair)
    elif share < 0.86:
        kind = "handbook_unknown"
        things = {of.thing for of in facts}
        other = rng.choice([t for t in (*THINGS, *handbook.UNTOLD) if t not in things])
        question = _question(rng, Fact(other, fact.relation, fact.value))
        reply = rng.choice(UNKNOWN)
    else:
        kind, context, question = "handbook_plain", None, _question(rng, fact)
        reply = NO_IDEA if rng.random() < 0.25 else _answer(rng, fact)
    return _conversation(rng, kind, context, _prompt(rng, question, place), reply)


def draw_facts_said(rng: random.Random) -> Conversation:
    """Three to six facts told, to be said again: the look-up that every answer needs."""
    facts = draw_facts(rng, rng.randint(4, 14))
    asked = rng.sample(facts, rng.randint(3, min(6, len(facts))))
    question = f"Say what is told of the {', the '.join(fact.thing for fact in asked)}."
    reply = "\n".join(fact.told() for fact in asked)
    return _conversation(
        rng, "handbook_facts", _told(rng, facts, rng.choice(PLACES)), question, reply
    )


def draw_many(rng: random.Random) -> Conversation:
    """Three to five questions at once, answered one a line."""
    facts = draw_facts(rng, rng.randint(4, 12))
    asked = [rng.choice(facts) for _ in range(rng.randint(3, 5))]
    question = "\n".join(_question(rng, fact) for fact in asked)
    reply = "\n".join(_answer(rng, fact) for fact in asked)
    return _conversation(
        rng, "handbook_facts", _told(rng, facts, rng.choice(PLACES)), question, reply
    )
