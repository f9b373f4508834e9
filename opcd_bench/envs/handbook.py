"""Handbooks as tasks: questions about the facts of a made-up camp, in wordings and other ways.

A variant is a subclass with another name and another number of ``facts`` (6 to 200), another
``seed``, or another ``placement`` of the handbook.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from statistics import fmean

from opcd_bench.envs.question import QuestionEpisode, majority_floor
from opcd_bench.envs.task import (
    SPLITS,
    BestPossible,
    Context,
    Episode,
    Example,
    Floor,
    Grade,
    Placement,
    Probe,
    Split,
    Task,
)
from opcd_bench.envs.worlds import handbook as world
from opcd_bench.envs.worlds.handbook import BY_NAME, OPENINGS, THING, Fact
from opcd_bench.seeds import generator, seed_of

MOST_ASKED = 120
"""Examples of a further test set, at most."""
BOTH = " and "
"""Between the two answers of a reference."""


class Handbook(Task):
    """One reply a question; right if it names the value asked for, and no other of its kind.

    Splits are disjoint by wording: each asks for every fact, in wordings of its own.
    """

    facts = 12
    seed = 1
    placement: Placement = "system"
    leak_patterns = (r"\bhandbook\b",)

    def context(self) -> Context:
        """The handbook, a sentence a fact."""
        return Context(world.told(_own(self)), self.placement)

    def examples(self, split: Split) -> Sequence[Example]:
        """Every fact in each of the split's wordings and openings."""
        return _examples(self.facts, self.seed)[split]

    def open(self, example: Example, seed: int) -> Episode:
        """One question; nothing is left to chance, so ``seed`` changes nothing."""
        return HandbookEpisode(example, _own(self))

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        """The majority answer, and a uniform guess among all values of a relation."""
        return _floors(examples)

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        """Every question has its answer."""
        return BestPossible(1.0, "every answer is in the handbook")

    def probes(self) -> Sequence[Probe]:
        """Asked the other way round, twice at once, of unknown things, told again, contradicted.

        Questions for two facts are clusters by the first of them, though they rest on both.
        """
        reverse, two, unknown, against = _asked_otherwise(self.facts, self.seed)
        test = self.examples("test")
        return (
            Probe("reversed", "what has a value: asked the other way round", reverse, _floors),
            Probe("two_facts", "two facts in one question", two, (_nothing(0.0),)),
            Probe("unknown", "things of which the handbook says nothing; right if the response "
                  "names none of its values", unknown, (_nothing(1.0),)),
            Probe("told_again", "the test questions, with the handbook", test, _floors, "context"),
            Probe("contradicted", "the test questions, with a handbook of other values", against,
                  _floors, Context(world.told(_other(self.facts, self.seed)), self.placement)),
        )  # fmt: skip


class HandbookEpisode(QuestionEpisode):
    """A question of a handbook. Other values of the same kind take the credit away."""

    def __init__(self, example: Example, own: Sequence[Fact]) -> None:
        super().__init__([{"role": "user", "content": str(example.content["question"])}])
        self._kinds: Sequence[str] = example.content["kinds"]
        self._set: str = example.content["set"]
        self._right = (example.reference or "").split(BOTH)
        self._values = {fact.value for fact in own}
        self._own = {own[place].value for place in example.content["facts"]}

    def graded(self, reply: str) -> Grade:
        """1 where the values that the reply names are those asked for; None where it names none."""
        named = [world.named(kind, reply) for kind in self._kinds]
        every = sorted(set().union(*named))
        read = ", ".join(every) or None
        if self._set == "unknown":
            made_up = sorted(self._values.intersection(every))
            why = f"names {', '.join(made_up)}" if made_up else "names no value of the handbook"
            also = {
                "says_unknown": float(world.says_unknown(reply)),
                "any_value": float(any(named)),
            }
            return Grade(float(not made_up), read, why, also)
        also = {}
        if self._set == "contradicted":
            also["own_value"] = float(bool(self._own.intersection(every)))
        if read is None:
            return Grade(None, None, f"names no {' and no '.join(self._kinds)}", also)
        right = all(found == {one} for found, one in zip(named, self._right, strict=True))
        return Grade(float(right), read, f"it is {BOTH.join(self._right)}", also)


def _own(task: Handbook) -> tuple[Fact, ...]:
    return world.facts(task.facts, task.seed)


@functools.cache
def _other(count: int, seed: int) -> tuple[Fact, ...]:
    """The facts of a handbook of the same things with other values: each differs from its own."""
    own = world.facts(count, seed)
    for values in range(seed + 1, seed + 1000):
        other = world.facts(count, seed, values)
        if all(a.value != b.value for a, b in zip(own, other, strict=True)):
            return other
    raise AssertionError("no other values")


def _example(kind: str, text: str, kinds: Sequence[str], facts: Sequence[int],
             answers: Sequence[str], opening: str = OPENINGS[0],
             about: str = "") -> Example:  # fmt: skip
    """``about``: what is asked of, where it is no fact of the handbook."""
    content = {
        "question": world.prompt(text, opening),
        "set": kind,
        "kinds": list(kinds),
        "facts": list(facts),
    }
    cluster = f"fact {facts[0]}" if facts else about
    return Example(content, BOTH.join(answers) or None, cluster=cluster)


def _mixed(examples: Iterable[Example]) -> tuple[Example, ...]:
    """In the order of a hash, so that the first ones are of all kinds."""
    return tuple(sorted(examples, key=lambda one: seed_of("handbook", "order", one.id)))


@functools.cache
def _examples(count: int, seed: int) -> Mapping[Split, Sequence[Example]]:
    return {split: _mixed(_in_wordings(split, count, seed)) for split in SPLITS}


def _in_wordings(split: Split, count: int, seed: int, other: bool = False) -> Iterator[Example]:
    told = _other(count, seed) if other else world.facts(count, seed)
    for place, fact in enumerate(told):
        for wording, opening in product(BY_NAME[fact.relation].asked[split], OPENINGS):
            yield _example(
                "contradicted" if other else "asked", wording.format(x=fact.thing),
                [fact.relation], [place], [fact.value], opening,
            )  # fmt: skip


@functools.cache
def _asked_otherwise(count: int, seed: int) -> tuple[tuple[Example, ...], ...]:
    """Reversed, two facts, unknown and contradicted."""
    own = world.facts(count, seed)
    reverse = [
        _example("reversed", wording.format(x=fact.value), [THING], [i], [fact.thing], opening)
        for i, fact in enumerate(own)
        for wording, opening in product(BY_NAME[fact.relation].reversed, OPENINGS)
    ]
    unknown = [
        _example(
            "unknown",
            wording.format(x=thing),
            [relation.name],
            [],
            [],
            about=f"{relation.name} of {thing}",
        )
        for thing, relation in product(world.UNTOLD, world.RELATIONS)
        for wording in relation.asked["test"][:2]
    ]
    against = _in_wordings("test", count, seed, other=True)
    found = (reverse, _pairs(own, seed), unknown, against)
    return tuple(_mixed(one)[:MOST_ASKED] for one in found)


def _pairs(own: Sequence[Fact], seed: int) -> Iterator[Example]:
    rng = generator("handbook", "two", seed)
    pairs = [(a, b) for a, b in product(range(len(own)), repeat=2)
             if own[a].relation != own[b].relation and own[a].thing != own[b].thing]  # fmt: skip
    for a, b in rng.sample(pairs, min(MOST_ASKED, len(pairs))):
        one, two = (BY_NAME[own[i].relation].clause.format(x=own[i].thing) for i in (a, b))
        yield _example(
            "two_facts", f"{one[0].upper()}{one[1:]}, and {two}?",
            [own[a].relation, own[b].relation], [a, b], [own[a].value, own[b].value],
        )  # fmt: skip


def _floors(examples: Sequence[Example]) -> tuple[Floor, ...]:
    sizes = {THING: len(world.THINGS), **{name: len(one.values) for name, one in BY_NAME.items()}}
    kinds = [str(example.content["kinds"][0]) for example in examples]
    chance = fmean(1 / sizes[kind] for kind in kinds)
    right = Counter(zip(kinds, (str(example.reference) for example in examples), strict=True))
    best = sum(max(n for (of, _), n in right.items() if of == kind) for kind in set(kinds))
    return (
        majority_floor([str(example.reference) for example in examples]),
        Floor(
            "majority answer by relation",
            best / len(examples),
            "of every relation always the same value: which are there, and not whose they are",
        ),
        Floor("uniform random", chance, "any of the values that a relation can have"),
    )


def _nothing(value: float) -> Floor:
    return Floor("says nothing", value, "a response that names no value at all")
