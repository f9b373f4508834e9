"""Worlds of the games: what marks and controls mean, told or not, and the words for all of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from opcd_bench.envs.worlds.board import CONTROLS, DIRECTIONS, MARKS, Cell, direction_between, name
from opcd_bench.envs.worlds.conversation import Message
from opcd_bench.envs.worlds.reflection import ITEM


@dataclass(frozen=True)
class World:
    """What a context tells: ``marks`` (role -> mark) and ``controls`` (direction -> letter)."""

    marks: Mapping[str, str]
    controls: Mapping[str, str]

    def sentences(self) -> list[str]:
        """One sentence a fact, as contexts, replies and lessons word it."""
        return [
            *(mark_sentence(role, mark) for role, mark in self.marks.items()),
            *(control_sentence(way, letter) for way, letter in self.controls.items()),
        ]

    def direction_of(self, letter: str) -> str | None:
        """The direction that a control's letter moves to; None for a letter that is no control."""
        return next((way for way, known in self.controls.items() if known == letter), None)


LAKE_WORLD = World(
    marks={"hole": "&", "goal": "%", "rubble": "+"},
    controls={"up": "m", "down": "t", "left": "g", "right": "r"},
)
"""The world of the task ``frozen_lake``; pre-training never draws its marks or its controls."""

SOKOBAN_WORLD = World(
    marks={"box": "@", "target": "^", "wall": "=", "rubble": "~"},
    controls={"up": "y", "down": "h", "left": "s", "right": "o"},
)
"""The world of the task ``sokoban``; pre-training never draws its marks or its controls."""

TASK_WORLDS = (LAKE_WORLD, SOKOBAN_WORLD)


def is_task_world(world: World) -> bool:
    """Whether ``world`` has all controls of a task's, or all of its marks (rubble set aside)."""
    return any(
        world.controls == task.controls
        or all(world.marks.get(role) == mark for role, mark in task.marks.items() if role != RUBBLE)
        for task in TASK_WORLDS
    )


RUBBLE = "rubble"
"""The role of a mark that does nothing: it keeps marks from being read off their counts."""


def draw_world(rng: random.Random, roles: Sequence[str]) -> World:
    """A world in which marks and controls are independent and uniform; never a task's."""
    while True:
        marks = dict(zip(roles, rng.sample(MARKS, len(roles)), strict=True))
        world = World(marks, dict(zip(DIRECTIONS, rng.sample(CONTROLS, 4), strict=True)))
        if not is_task_world(world):
            return world


def believed_world(
    rng: random.Random, world: World, known: Collection[str], fits: Callable[[World], bool]
) -> World:
    """A world that agrees with ``world`` on the ``known`` roles and directions, the rest shuffled.

    What is not known is redrawn until ``fits`` (the board must be winnable under it); ``world``
    itself has to fit. With nothing known it is what a player who was told nothing may believe.
    """

    def shuffled(facts: Mapping[str, str]) -> dict[str, str]:
        unknown = [key for key in facts if key not in known]
        values = [facts[key] for key in unknown]
        rng.shuffle(values)
        return {**facts, **dict(zip(unknown, values, strict=True))}

    while True:
        belief = World(shuffled(world.marks), shuffled(world.controls))
        if not is_task_world(belief) and fits(belief):
            return belief


# --- words ---


def mark_sentence(role: str, mark: str) -> str:
    """What a mark means, as a context, a reply and a lesson say it."""
    return f"{role} is {mark}."


def control_sentence(direction: str, letter: str) -> str:
    """What a control does, as a context, a reply and a lesson say it."""
    return f"{direction} {letter}."


def found_sentence(role: str, mark: str, cells: Sequence[Cell]) -> str:
    """What a reply reads off the board: the mark's sentence with its cells, each after the mark."""
    places = " ".join(f"{mark} {name(cell)}" for cell in cells) if cells else f"{mark} none"
    return f"{role} is {places}."


def told(sentences: Sequence[str]) -> str:
    """The context that states ``sentences`` in their order."""
    return f"Rules: {' '.join(sentences)}"


def told_as_items(sentences: Sequence[str]) -> str:
    """The same as lessons are kept: one item a line."""
    return "\n".join(f"{ITEM} {sentence}" for sentence in sentences)


def step_words(before: Cell, after: Cell, world: World) -> str:
    """The end of a worked reply: the direction of a step and the control that goes there."""
    way = direction_between(before, after)
    letter = world.controls[way]
    return f"{name(before)} {name(after)} is {way}. {way} {letter} [{letter}]."


# --- feedback: what the environment says of an attempt, and what can be learnt from it ---


@dataclass(frozen=True)
class Happening:
    """What one turn brought: ``words`` for the player, ``lessons`` that follow from them."""

    words: str
    lessons: tuple[str, ...] = ()


NO_ACTION = Happening("no action was read.")
TURNS_OVER = "the turns are over."
REFUSED_TWICE = "refused twice: you lost."


def stepped(letter: str, before: Cell, after: Cell) -> Happening:
    """A step that was taken."""
    lesson = control_sentence(direction_between(before, after), letter)
    return Happening(f"[{letter}] moved you from {name(before)} to {name(after)}.", (lesson,))


def entered(cell: Cell, mark: str, role: str, what: str) -> Happening:
    """What became of entering a mark's cell, and with it what the mark is."""
    return Happening(f"{name(cell)} was {mark}: {what}.", (mark_sentence(role, mark),))


def refused(letter: str, at: Cell) -> Happening:
    """A step off the board."""
    return Happening(f"[{letter}] at {name(at)} was refused.")


def joined(happenings: Sequence[Happening]) -> Happening:
    """Several happenings as one: words in order, every lesson once."""
    lessons = dict.fromkeys(lesson for one in happenings for lesson in one.lessons)
    return Happening(" ".join(one.words for one in happenings), tuple(lessons))


# --- what a conversation tells ---


@dataclass(frozen=True)
class Telling:
    """The system messages of a conversation (one or none) and what they tell.

    ``known`` holds roles and directions.
    """

    messages: tuple[Message, ...]
    known: frozenset[str]


def draw_telling(rng: random.Random, world: World) -> Telling:
    """Nothing told (18 %), a part (12 %), or all; in one line or as lessons, in random order.

    A part stands for a context that was put together from few attempts; lessons may come twice.
    """
    share = rng.random()
    facts = [
        *((role, mark_sentence(role, mark)) for role, mark in world.marks.items()),
        *((way, control_sentence(way, letter)) for way, letter in world.controls.items()),
    ]
    rng.shuffle(facts)
    if share < 0.18:
        return Telling((), frozenset())
    if share < 0.30:
        facts = facts[: rng.randrange(1, len(facts))]
    known = frozenset(key for key, _ in facts)
    sentences = [sentence for _, sentence in facts]
    if rng.random() < 0.2:
        if rng.random() < 0.3:
            sentences += rng.sample(sentences, rng.randint(1, min(3, len(sentences))))
        text = told_as_items(sentences)
    else:
        text = told(sentences)
    return Telling(({"role": "system", "content": text},), known)
