"""The sentence grammar of the writing requests: topics, what is said of them, simple sentences.

Few and frequent words, so that nearly each is one token of a vocabulary of about a thousand.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """A noun that is written about, and what may truly be said of it."""

    noun: str
    adjectives: tuple[str, ...]
    verbs: tuple[str, ...]
    """What follows ``We`` or ``You can``, with ``it`` or the noun as its object."""
    places: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """Topics of one kind share what can be said of them."""

    nouns: str
    adjectives: str
    verbs: str
    places: tuple[str, ...]


FAMILIES = (
    Family(
        "sea river lake rain snow",
        "cold blue deep big clear calm",
        "see hear love",
        ("by the road", "near the town", "far away"),
    ),
    Family(
        "wind sun moon star sky cloud",
        "bright big old calm soft far",
        "see love watch",
        ("over the hill", "over the town", "far away"),
    ),
    Family(
        "tree leaf rose grass",
        "green tall old soft small fresh",
        "see love watch",
        ("in the park", "near the house", "by the road"),
    ),
    Family(
        "hill rock sand forest garden park farm",
        "green big old wide quiet clean",
        "see visit love",
        ("by the road", "near the town", "far away"),
    ),
    Family(
        "bridge town city house market school",
        "new big old wide quiet clean",
        "see visit love",
        ("by the road", "near the river", "far away"),
    ),
    Family(
        "door window table chair bed lamp clock",
        "new small old clean dark strong",
        "see use like",
        ("in the house", "at home", "in the shop"),
    ),
    Family(
        "book song dance game story film",
        "new short old calm fun sweet",
        "know like love",
        ("at school", "at home", "in the town"),
    ),
    Family(
        "boat train car bus bike ship plane",
        "fast big new strong clean slow",
        "see use like",
        ("by the road", "near the bridge", "in the town"),
    ),
    Family(
        "bread cake soup milk apple egg rice fish",
        "fresh sweet warm soft good small",
        "eat like make",
        ("at home", "at school", "in the shop"),
    ),
    Family(
        "cat dog horse cow bird duck bee frog fox bear lion mouse",
        "small fast soft strong quiet wild",
        "see like watch",
        ("in the park", "near the house", "on the farm"),
    ),
)


def _topics() -> tuple[Topic, ...]:
    """Each noun gets four of its family's six adjectives, the same ones on every machine."""
    topics = []
    for family in FAMILIES:
        words = family.adjectives.split()
        for place, noun in enumerate(family.nouns.split()):
            turned = words[place % 6 :] + words[: place % 6]
            topics.append(
                Topic(noun, tuple(turned[:4]), tuple(family.verbs.split()), family.places)
            )
    return tuple(topics)


TOPICS = _topics()
BY_NOUN = {topic.noun: topic for topic in TOPICS}
ADJECTIVES = tuple(sorted({word for topic in TOPICS for word in topic.adjectives}))

TIMES = ("in the morning", "at night", "in the summer", "in the winter", "every day")

OPENINGS_PLAIN = (
    "The {n} is {a}.",
    "The {n} is {a} and {b}.",
    "I {v} the {n}.",
    "We {v} the {n} {t}.",
    "You can find the {n} {p}.",
)
OPENINGS_COMMA = (
    "The {n} is {a}, {b} and {c}.",
    "The {n} is {a}, but it is {b} too.",
    "To me, the {n} is {a}.",
    "Yes, I {v} the {n}.",
    "{T}, we {v} the {n}.",
)
FOLLOWING_PLAIN = (
    "It is {a}.",
    "It is {a} and {b}.",
    "We {v} it {t}.",
    "I {v} it.",
    "You can find it {p}.",
    "It makes me happy.",
    "People say it is {a}.",
)
FOLLOWING_COMMA = (
    "It is {a}, {b} and {c}.",
    "{T}, it is {a}.",
    "{T}, we {v} it.",
    "To me, it is {a}.",
    "It is {a}, but it is {b} too.",
)
SHORT = (
    "It is {a}.",
    "The {n} is {a}.",
    "I {v} it.",
    "I {v} the {n}.",
    "People say it is {a}.",
    "You can {v} it {p}.",
)


def sentence(rng: random.Random, topic: Topic, *, opening: bool, commas: bool) -> str:
    """One sentence about ``topic``: an opening names the noun, a following one says "it".

    With ``commas`` half of the sentences have one; without, none has.
    """
    plain = OPENINGS_PLAIN if opening else FOLLOWING_PLAIN
    comma = OPENINGS_COMMA if opening else FOLLOWING_COMMA
    form = rng.choice(comma if commas and rng.random() < 0.5 else plain)
    return fill(rng, topic, form)


def short_sentence(rng: random.Random, topic: Topic) -> str:
    """A sentence of three to seven words without a comma."""
    return fill(rng, topic, rng.choice(SHORT))


def fill(rng: random.Random, topic: Topic, form: str) -> str:
    """``form`` with its slots filled by what may be said of ``topic``."""
    a, b, c = rng.sample(topic.adjectives, 3)
    time = rng.choice(TIMES)
    return form.format(
        n=topic.noun,
        a=a,
        b=b,
        c=c,
        v=rng.choice(topic.verbs),
        p=rng.choice(topic.places),
        t=time,
        T=time[0].upper() + time[1:],
    )
