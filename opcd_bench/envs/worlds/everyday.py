"""Everyday questions that need no knowledge of the day: templates over things, by theme."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

Set = Literal["train", "dev", "test"]
FORM = "Answer in one or two short sentences."
SHARES: Mapping[Set, slice] = {"train": slice(0, 7), "dev": slice(7, 9), "test": slice(9, 12)}
"""Which things of a theme a split asks about, so that no thing is in two splits."""


@dataclass(frozen=True)
class Theme:
    """Questions that can be asked of each of twelve things."""

    asked: tuple[str, ...]
    things: tuple[str, ...]


def _theme(asked: Sequence[str], things: str) -> Theme:
    return Theme(tuple(asked), tuple(things.split(", ")))


THEMES = (
    _theme(
        (
            "How do I cook {x}?",
            "How long can I keep {x} in the fridge?",
            "What goes well with {x}?",
            "How do I choose good {x} at the market?",
            "Can I freeze {x}?",
            "How much {x} do I need for four people?",
        ),
        "rice, carrots, salmon, lentils, spinach, eggs, potatoes, mushrooms, chicken, pumpkin, "
        "beans, noodles",
    ),
    _theme(
        (
            "How do I clean a {x}?",
            "How often should I clean a {x}?",
            "How do I get a bad smell out of a {x}?",
            "What should I look at when I buy a {x}?",
            "How do I get rid of an old {x}?",
            "How long does a {x} last?",
        ),
        "carpet, mattress, fridge, kettle, sofa, washing machine, toaster, shower curtain, "
        "wooden table, oven, backpack, rain jacket",
    ),
    _theme(
        (
            "How do I start with {x}?",
            "What do I need for {x}?",
            "Is {x} good for my health?",
            "How can I get better at {x}?",
            "What is the most common mistake in {x}?",
            "Can I learn {x} without a teacher?",
        ),
        "swimming, drawing, chess, running, knitting, cooking, gardening, dancing, juggling, "
        "photography, yoga, singing",
    ),
    _theme(
        (
            "How often do I water a {x}?",
            "How much light does a {x} need?",
            "Why does my {x} have yellow leaves?",
            "When do I plant a {x}?",
            "Can a {x} stay outside in winter?",
            "How do I help a weak {x}?",
        ),
        "rose bush, cactus, tomato plant, fern, lemon tree, basil plant, sunflower, fig tree, "
        "lavender bush, orchid, strawberry plant, ivy",
    ),
    _theme(
        (
            "What does a {x} eat?",
            "Where does a {x} live?",
            "How long does a {x} live?",
            "Is a {x} dangerous?",
            "Does a {x} make a good pet?",
            "How does a {x} sleep?",
        ),
        "hedgehog, dolphin, parrot, tortoise, squirrel, horse, owl, rabbit, fox, penguin, "
        "goldfish, bat",
    ),
    _theme(
        (
            "How do I talk to a {x} about a problem?",
            "What is a good gift for a {x}?",
            "How do I thank a {x}?",
            "How do I say no to a {x}?",
            "What can I do together with a {x}?",
            "How do I say sorry to a {x}?",
        ),
        "neighbour, teacher, new colleague, grandmother, best friend, younger brother, boss, "
        "classmate, flatmate, cousin, doctor, roommate",
    ),
    _theme(
        (
            "What should I pack for {x}?",
            "How do I stay safe on {x}?",
            "How much does {x} cost?",
            "How do I plan {x}?",
            "What can go wrong on {x}?",
            "Is {x} a good idea with small children?",
        ),
        "a camping trip, a long flight, a day at the beach, a hike in the mountains, a train "
        "journey, a city weekend, a bicycle tour, a boat trip, a picnic, a ski holiday, "
        "a road trip, a museum visit",
    ),
    _theme(
        (
            "What helps against {x}?",
            "Why do people get {x}?",
            "How long does {x} last?",
            "When should I see a doctor about {x}?",
            "How can I prevent {x}?",
            "Does sleep help with {x}?",
        ),
        "a headache, a sore throat, hiccups, sunburn, a cold, back pain, a cough, stress, tired "
        "eyes, a blister, a mosquito bite, stage fright",
    ),
)


def questions(split: Set) -> Iterator[str]:
    """Every question of a split, theme by theme."""
    for theme in THEMES:
        for thing, asked in product(theme.things[SHARES[split]], theme.asked):
            yield asked.format(x=thing)


def prompt(question: str) -> str:
    """The user message of a question."""
    return f"{question} {FORM}"
