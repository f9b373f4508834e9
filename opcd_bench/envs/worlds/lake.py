"""Frozen Lake as a world: maps, what is told of them, and worked replies that name a way.

A reply reads the board (own cell, goals, holes), names a shortest path, and takes its first step::

    P a1. goal is * d4. hole is # b2 # c3. path a1 b1 c1 d1 d2 d3 d4. a1 b1 is down.
    down p [p].

Pre-training maps have one to four cells of every mark, in every role, and the player anywhere, so
that neither counts nor places tell what a mark means. A map that ``is_held_out`` is never drawn:
dev and test of the task ``frozen_lake`` are made of those.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from opcd_bench.envs.worlds.board import (
    CELLS,
    NEIGHBOURS,
    PLAYER,
    SIZE,
    Cell,
    digest,
    distances,
    name,
    names,
    prompt,
    random_shortest,
    render,
)
from opcd_bench.envs.worlds.conversation import Conversation, Message
from opcd_bench.envs.worlds.game_world import (
    NO_ACTION,
    RUBBLE,
    Happening,
    World,
    believed_world,
    draw_telling,
    draw_world,
    entered,
    found_sentence,
    joined,
    refused,
    step_words,
    stepped,
)

GAME = "Lake"
HOLE, GOAL = "hole", "goal"
ROLES = (HOLE, GOAL, RUBBLE)
CORNERS: tuple[Cell, ...] = ((0, 0), (0, SIZE - 1), (SIZE - 1, 0), (SIZE - 1, SIZE - 1))
HELD_OUT_SHARE = 10
"""One map in this many is held out of pre-training."""


@dataclass(frozen=True)
class Lake:
    """Where the player and the marks are; ``things`` maps cells to marks, whatever they mean."""

    player: Cell
    things: Mapping[Cell, str]

    def cells(self, mark: str) -> list[Cell]:
        """The cells of a mark in reading order."""
        return [cell for cell in CELLS if self.things.get(cell) == mark]


def distance_to_goal(holes: frozenset[Cell], goals: frozenset[Cell]) -> dict[Cell, int]:
    """Steps to the nearest goal from each cell that has a way there without a hole."""
    return distances(goals, lambda cell: [at for at in NEIGHBOURS[cell] if at not in holes])


def is_winnable(lake: Lake, world: World) -> bool:
    """Whether the player stands on neither hole nor goal and some goal can be reached."""
    holes = frozenset(lake.cells(world.marks[HOLE]))
    goals = frozenset(lake.cells(world.marks[GOAL]))
    if lake.player in holes or lake.player in goals:
        return False
    return lake.player in distance_to_goal(holes, goals)


def map_digest(holes: Collection[Cell], goals: Collection[Cell]) -> int:
    """A hash of a map's holes and goals; rubble and the player do not count."""
    return digest("lake", names(sorted(holes)), names(sorted(goals)))


def is_held_out(holes: Collection[Cell], goals: Collection[Cell]) -> bool:
    """Whether pre-training never draws this map."""
    return map_digest(holes, goals) % HELD_OUT_SHARE == 0


def worked_reply(rng: random.Random, lake: Lake, world: World) -> str:
    """The reply of a player who believes ``world``; random among reading orders and ways.

    With several goals one that can be reached is chosen at random, then a shortest path to the
    first goal on the way there.
    """
    marks = world.marks
    holes, goals = frozenset(lake.cells(marks[HOLE])), frozenset(lake.cells(marks[GOAL]))
    reachable = distance_to_goal(holes, frozenset([lake.player]))
    aim = rng.choice(sorted(goal for goal in goals if goal in reachable))
    path = random_shortest(
        rng,
        lake.player,
        distance_to_goal(holes, frozenset([aim])),
        lambda cell: [at for at in NEIGHBOURS[cell] if at not in holes],
    )
    path = path[: next(place for place, cell in enumerate(path) if cell in goals) + 1]
    reading = [found_sentence(role, marks[role], lake.cells(marks[role])) for role in (GOAL, HOLE)]
    if rng.random() < 0.5:
        reading.reverse()
    return (
        f"{PLAYER} {name(lake.player)}. {' '.join(reading)} path {names(path)}. "
        f"{step_words(path[0], path[1], world)}"
    )


def messages(lake: Lake, world: World) -> tuple[Message, ...]:
    """The plain messages: the board and the allowed actions."""
    return (prompt(GAME, render(lake.player, lake.things), world.controls.values()),)


def happening(lake: Lake, world: World, letter: str | None, after: Cell) -> Happening:
    """What a turn brought: the action read (if any), and where the player was found ``after``."""
    if letter is None:
        return NO_ACTION
    if after == lake.player:
        return refused(letter, lake.player)
    step = stepped(letter, lake.player, after)
    ends = {HOLE: "you fell in and lost", GOAL: "you won", RUBBLE: "nothing happened"}
    role = next((role for role in ROLES if world.marks[role] == lake.things.get(after)), None)
    if role is None:
        return step
    return joined([step, entered(after, world.marks[role], role, ends[role])])


def draw_lake(rng: random.Random, world: World) -> Lake:
    """A winnable map under ``world`` that is not held out: like the task's, or any."""
    while True:
        lake = _like_the_task(rng, world) if rng.random() < 0.5 else _any(rng, world)
        holes = frozenset(lake.cells(world.marks[HOLE]))
        goals = frozenset(lake.cells(world.marks[GOAL]))
        if is_winnable(lake, world) and not is_held_out(holes, goals):
            return lake


def _like_the_task(rng: random.Random, world: World) -> Lake:
    """One goal in a corner, 3 to 5 holes, 1 to 3 of rubble; roles swapped in 4 of 10 maps."""
    corner = rng.choice(CORNERS)
    start = (SIZE - 1 - corner[0], SIZE - 1 - corner[1])
    others = [cell for cell in CELLS if cell not in (corner, start)]
    rng.shuffle(others)
    holes = rng.randint(3, 5)
    groups = [others[:holes], [corner], others[holes : holes + rng.randint(1, 3)]]
    if rng.random() < 0.4:
        rng.shuffle(groups)
    things = {
        cell: world.marks[role] for role, group in zip(ROLES, groups, strict=True) for cell in group
    }
    return _with_player(rng, things, world, start if rng.random() < 0.4 else None)


def _any(rng: random.Random, world: World) -> Lake:
    """One to four cells of every mark (rubble possibly none), anywhere."""
    counts = [rng.randint(1, 4), rng.randint(1, 3), rng.randint(0, 4)]
    cells = rng.sample(CELLS, sum(counts))
    things = {}
    for role, count in zip(ROLES, counts, strict=True):
        for _ in range(count):
            things[cells.pop()] = world.marks[role]
    return _with_player(rng, things, world, None)


def _with_player(
    rng: random.Random, things: Mapping[Cell, str], world: World, start: Cell | None
) -> Lake:
    """The map with its player: at ``start``, or anywhere but on a goal or in a hole."""
    taken = {world.marks[HOLE], world.marks[GOAL]}
    free = [cell for cell in CELLS if things.get(cell) not in taken]
    return Lake(start if start in free else rng.choice(free), things)


def draw(rng: random.Random) -> Conversation:
    """One turn of a lake: told all, a part or nothing; what was not told is guessed."""
    world = draw_world(rng, ROLES)
    lake = draw_lake(rng, world)
    telling = draw_telling(rng, world)
    belief = believed_world(rng, world, telling.known, lambda guess: is_winnable(lake, guess))
    kind = "lake" if telling.known else "lake_plain"
    reply = worked_reply(rng, lake, belief)
    return Conversation(kind, (*telling.messages, *messages(lake, world)), reply)
