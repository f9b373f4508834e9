"""The world of handbooks: a made-up camp's facts, questions about them, and values in a reply.

A fact is a thing, one of four relations and a value: ``the rope is kept in the green hut``. No
value follows from the question, and no two facts of a handbook share one, so that each can also be
asked for by its value.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opcd_bench.seeds import generator

PLACE = "Orvale Camp"
MOST = 200
"""Facts that a handbook can have."""

Wordings = Mapping[str, Sequence[str]]
"""``train``, ``dev`` and ``test`` -> ways to ask; ``{x}`` is the thing, or the value."""


@dataclass(frozen=True)
class Relation:
    """What a handbook says of things: how it is told and asked, in one direction and the other.

    ``clause`` asks within a longer question; ``values`` are all that it can be.
    """

    name: str
    told: str
    asked: Wordings
    clause: str
    reversed: Sequence[str]
    values: tuple[str, ...]


COLOURS = ("green", "red", "blue", "yellow", "white", "black", "brown", "grey", "orange", "purple")
BUILDINGS = ("hut", "shed", "barn", "cabin", "tower", "cellar")
NAMES = (
    "Mara Tobin Elke Jonas Priya Kofi Ines Ravi Hanna Milo Greta Omar Lucia Sven Amina Pavel "
    "Noemi Dario Freya Hugo Leila Marek Nadia Oskar Petra Rufus Salma Tomas Ulla Viktor Wanda "
    "Yusuf Zelda Anton Bruno Celia Dmitri Edda Fabio Gwen Henrik Irma Jakob Kirsten Lorenzo Magda "
    "Nils Olga Pablo Quentin Rosalind Stefan Thea Umberto Vera Wilma Xavier Yvonne Zoltan Astrid"
).split()
CODE_WORDS = (
    "juniper marble falcon velvet copper walnut comet saffron badger thistle amber lantern pepper "
    "magnet otter willow canyon ginger cobalt raven clover nutmeg anchor maple puffin granite "
    "tulip cactus ember walrus hazel pebble mango beacon lilac heron topaz fennel glacier cricket "
    "poppy bamboo quartz salmon meadow python violet acorn sparrow coral biscuit tundra orchid "
    "panther cherry basalt toffee lagoon condor mustard"
).split()
ANIMALS = (
    "hedgehog dolphin parrot tortoise squirrel horse owl rabbit fox penguin goldfish bat wolf "
    "tiger lion zebra camel donkey goat sheep duck goose swan eagle crow frog toad snail whale "
    "shark crab lobster spider beetle ant bee wasp moth butterfly elephant giraffe monkey gorilla "
    "kangaroo koala panda beaver raccoon skunk deer moose bison buffalo lizard snake crocodile "
    "ostrich flamingo pigeon turkey"
).split()
THINGS = (
    "rope lamp boat stove drum kite saw tent flag bell map radio bucket ladder spade hammer kettle "
    "guitar bicycle canoe whistle blanket compass axe net barrel basket candle piano telescope "
    "wheelbarrow trumpet anvil broom camera chain clock desk fan globe harp iron jacket knife loom "
    "mirror needle oven paddle pump quilt rake scale sledge teapot umbrella vase wagon yoke "
    "accordion bench cauldron dumbbell easel flute gong hose jigsaw kayak lute mallet oar pulley "
    "rug scooter toolbox typewriter violin wrench xylophone"
).split()
UNTOLD = (
    "sword tractor printer saddle parachute microscope hammock lawnmower chessboard snowboard "
    "fridge trampoline fishbowl projector surfboard cello"
).split()
"""Things of which no handbook says anything."""

RELATIONS = (
    Relation(
        "place",
        "The {thing} is kept in the {value}.",
        {
            "train": (
                "Where is the {x} kept?",
                "In which building is the {x} kept?",
                "Where do they keep the {x}?",
                "Where is the {x}?",
                "Tell me where the {x} is kept.",
                "Which building holds the {x}?",
            ),
            "dev": (
                "In what building is the {x}?",
                "Where can I find the {x}?",
                "Where do people keep the {x}?",
            ),
            "test": (
                "I need the {x}. Where is it kept?",
                "Where would I find the {x}?",
                "What is the {x} kept in?",
                "Do you know where the {x} is kept?",
            ),
        },
        "where is the {x} kept",
        ("What is kept in the {x}?", "Which thing is kept in the {x}?"),
        tuple(f"{colour} {building}" for building in BUILDINGS for colour in COLOURS),
    ),
    Relation(
        "owner",
        "The {thing} belongs to {value}.",
        {
            "train": (
                "Who does the {x} belong to?",
                "Who is the owner of the {x}?",
                "To whom does the {x} belong?",
                "Whose is the {x}?",
                "Tell me who the {x} belongs to.",
                "Which person owns the {x}?",
            ),
            "dev": (
                "Who owns the {x}?",
                "To which person does the {x} belong?",
                "Who has the {x} as their own?",
            ),
            "test": (
                "I found the {x}. Who does it belong to?",
                "Who is it that owns the {x}?",
                "Which person does the {x} belong to?",
                "Do you know whose {x} it is?",
            ),
        },
        "who does the {x} belong to",
        ("What belongs to {x}?", "Which thing belongs to {x}?"),
        tuple(NAMES),
    ),
    Relation(
        "code",
        "The code word for the {thing} is {value}.",
        {
            "train": (
                "What is the code word for the {x}?",
                "Which code word does the {x} have?",
                "What code word goes with the {x}?",
                "What is the code word of the {x}?",
                "Tell me the code word for the {x}.",
                "Which word is the code for the {x}?",
            ),
            "dev": (
                "Which code word is for the {x}?",
                "The {x} has a code word. What is it?",
                "What is the word for the {x}?",
            ),
            "test": (
                "I forgot the code word for the {x}. What is it?",
                "Which code word do I need for the {x}?",
                "What code word do I say for the {x}?",
                "Do you know the code word for the {x}?",
            ),
        },
        "what is the code word for the {x}",
        ("Which thing has the code word {x}?", "What is {x} the code word for?"),
        tuple(CODE_WORDS),
    ),
    Relation(
        "sign",
        "The sign of the {thing} is the {value}.",
        {
            "train": (
                "What is the sign of the {x}?",
                "Which animal is the sign of the {x}?",
                "What sign does the {x} have?",
                "Tell me the sign of the {x}.",
                "What is the {x}'s sign?",
                "Which sign goes with the {x}?",
            ),
            "dev": (
                "Which sign is the {x}'s?",
                "The {x} has a sign. What is it?",
                "What animal is the {x}'s sign?",
            ),
            "test": (
                "I forgot the sign of the {x}. What is it?",
                "Which sign does the {x} have?",
                "What animal is the sign of the {x}?",
                "Do you know the sign of the {x}?",
            ),
        },
        "what is the sign of the {x}",
        ("Which thing has the sign of the {x}?", "Of what is the {x} the sign?"),
        tuple(ANIMALS),
    ),
)
BY_NAME = {relation.name: relation for relation in RELATIONS}
THING = "thing"
"""The kind of what a reversed question asks for."""

OPENINGS = (f"At {PLACE}: {{q}}", f"{PLACE}: {{q}}", f"I am at {PLACE}. {{q}}")
"""What stands around a question, in every split."""


@dataclass(frozen=True)
class Fact:
    """A thing, what is said of it (a relation's name), and the value."""

    thing: str
    relation: str
    value: str

    def told(self) -> str:
        """The handbook's sentence."""
        return BY_NAME[self.relation].told.format(thing=self.thing, value=self.value)


@functools.cache
def facts(count: int, seed: int, values_seed: int | None = None) -> tuple[Fact, ...]:
    """``count`` facts; another ``values_seed`` gives the same things and relations other values.

    Relations take turns, and a thing comes again only when all have had theirs. Raises ValueError
    for fewer than 6 or more than `MOST`.
    """
    if not 6 <= count <= MOST:
        raise ValueError(f"a handbook has 6 to {MOST} facts, not {count}")
    things = generator("handbook", "things", seed).sample(THINGS, len(THINGS))
    values = seed if values_seed is None else values_seed
    drawn = {
        one.name: iter(generator("handbook", one.name, values).sample(one.values, len(one.values)))
        for one in RELATIONS
    }
    found = []
    for place in range(count):
        again, thing = divmod(place, len(things))
        relation = RELATIONS[(thing + again) % len(RELATIONS)].name
        found.append(Fact(things[thing], relation, next(drawn[relation])))
    return tuple(found)


def told(of: Sequence[Fact]) -> str:
    """The handbook, a sentence a fact."""
    return "\n".join((f"Handbook of {PLACE}", *(fact.told() for fact in of)))


def prompt(question: str, opening: str = OPENINGS[0]) -> str:
    """The user message of a question."""
    return opening.format(q=question)


def named(kind: str, reply: str) -> frozenset[str]:
    """All values of a relation (or things) that a reply names, as whole words in any case."""
    text = _plain(reply)
    return frozenset(_KEYS[kind][found] for found in _PATTERNS[kind].findall(text))


def says_unknown(reply: str) -> bool:
    """Whether a reply says that it does not know, or that the handbook does not say."""
    return _UNKNOWN.search(_plain(reply)) is not None


def _plain(text: str) -> str:
    """Lower case, plain letters and signs; what is neither letter nor digit is one blank."""
    normal = unicodedata.normalize("NFKC", text).casefold().replace("’", "'").replace("'s ", " ")
    return " ".join(re.sub(r"[^\w']|_", " ", normal).split())


_KEYS = {
    **{one.name: {value.casefold(): value for value in one.values} for one in RELATIONS},
    THING: {thing: thing for thing in (*THINGS, *UNTOLD)},
}
_PATTERNS = {
    kind: re.compile(
        rf"\b({'|'.join(re.escape(key) for key in sorted(keys, key=len, reverse=True))})s?\b"
    )
    for kind, keys in _KEYS.items()
}
_UNKNOWN = re.compile(
    r"\b(?:(?:do|does|did|can|could|am|is|are|was)(?: not|n't) (?:\w+ ){0,2}?"
    r"(?:know|sure|certain|aware|say|mention|mentioned|specify|specified|tell|told|told|have|"
    r"provide|provided|listed|stated|given|find|determine|able)|cannot (?:say|tell|find|know|"
    r"determine|answer)|unknown|no (?:information|mention|idea|record|answer|entry)|"
    r"not (?:know|known|mentioned|specified|listed|sure|stated|given|provided|in the handbook))\b"
)
