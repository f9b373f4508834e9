"""Sokoban with one box as a world: rooms, what is told of them, and worked replies.

The inner four by four cells of a six by six room; the outer wall is not drawn. A reply reads the
board, names the cells that the box is to go through and where its first push is made from, then
the player's way up to that push, and takes its first step::

    P b2. box is & c2. target is % c4. wall is # a1 # b3. push c2 c3 c4 from c1. walk b2 b1 c1 c2.
    b2 b1 is left. left s [s].

A room (its walls and targets) that ``is_held_out`` is never drawn: dev and test of the task
``sokoban`` are made of those.
"""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from opcd_bench.envs.worlds.board import (
    CELLS,
    DIRECTIONS,
    PLAYER,
    SIZE,
    Cell,
    ahead_of,
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
    control_sentence,
    draw_telling,
    draw_world,
    entered,
    found_sentence,
    joined,
    mark_sentence,
    refused,
    step_words,
    stepped,
)

GAME = "Sokoban"
BOX, TARGET, WALL = "box", "target", "wall"
ROLES = (BOX, TARGET, WALL, RUBBLE)
HELD_OUT_SHARE = 4
"""One room in this many is held out of pre-training."""


class State(NamedTuple):
    """Where the player and the box are."""

    player: Cell
    box: Cell


@dataclass(frozen=True)
class Room:
    """What does not move."""

    walls: frozenset[Cell]
    targets: frozenset[Cell]


def moved(room: Room, state: State, direction: str) -> State | None:
    """The state after a step or push; None where a wall, the edge or a blocked box refuses it."""
    ahead = ahead_of(state.player, direction)
    if ahead is None or ahead in room.walls:
        return None
    if ahead != state.box:
        return State(ahead, state.box)
    beyond = ahead_of(ahead, direction)
    if beyond is None or beyond in room.walls:
        return None
    return State(ahead, beyond)


def later_states(room: Room, state: State) -> list[State]:
    """All states one step on."""
    return [after for way in DIRECTIONS if (after := moved(room, state, way)) is not None]


@functools.lru_cache(maxsize=64)
def distance_to_solved(room: Room) -> Mapping[State, int]:
    """Steps to a box on a target, from every state that can be solved."""
    floor = [cell for cell in CELLS if cell not in room.walls]
    before: dict[State, list[State]] = {}
    for box in floor:
        if box in room.targets:
            continue
        for player in floor:
            if player != box:
                state = State(player, box)
                for after in later_states(room, state):
                    before.setdefault(after, []).append(state)
    solved = [state for state in before if state.box in room.targets]
    return distances(solved, lambda state: before.get(state, ()))


def is_held_out(room: Room) -> bool:
    """Whether pre-training never draws this room, wherever its box and player are."""
    key = digest("sokoban", names(sorted(room.walls)), names(sorted(room.targets)))
    return key % HELD_OUT_SHARE == 0


@dataclass(frozen=True)
class Board:
    """What is seen: the player, and cells with their marks, whatever they mean."""

    player: Cell
    things: Mapping[Cell, str]

    def cells(self, mark: str) -> list[Cell]:
        """The cells of a mark in reading order."""
        return [cell for cell in CELLS if self.things.get(cell) == mark]

    def read(self, world: World) -> tuple[Room, State] | None:
        """The room and the state under ``world``; None where it has not exactly one box."""
        boxes = self.cells(world.marks[BOX])
        if len(boxes) != 1:
            return None
        walls, targets = self.cells(world.marks[WALL]), self.cells(world.marks[TARGET])
        return Room(frozenset(walls), frozenset(targets)), State(self.player, boxes[0])


def board_of(room: Room, state: State, rubble: frozenset[Cell], world: World) -> Board:
    """What is seen of a room; a thing that the box stands on is hidden by it."""
    marks = world.marks
    things = dict.fromkeys(rubble, marks[RUBBLE])
    things.update(dict.fromkeys(room.targets, marks[TARGET]))
    things.update(dict.fromkeys(room.walls, marks[WALL]))
    things[state.box] = marks[BOX]
    return Board(state.player, things)


def is_solvable(board: Board, world: World) -> bool:
    """Whether the board read under ``world`` has one box that can still be brought to a target."""
    read = board.read(world)
    return read is not None and distance_to_solved(read[0]).get(read[1], 0) > 0


def worked_reply(rng: random.Random, board: Board, world: World) -> str:
    """The reply of a player who believes ``world``; random among reading orders and plans."""
    read = board.read(world)
    if read is None:
        raise ValueError("the board has not exactly one box under this world")
    room, start = read
    plan = random_shortest(
        rng, start, distance_to_solved(room), lambda state: later_states(room, state)
    )
    first = next(place for place, state in enumerate(plan) if state.box != start.box)
    walk = [state.player for state in plan[: first + 1]]
    boxes = [start.box]
    boxes += [after.box for before, after in itertools.pairwise(plan) if before.box != after.box]
    found = [_found(role, board, world) for role in (BOX, TARGET)]
    if rng.random() < 0.5:
        found.reverse()
    return (
        f"{PLAYER} {name(start.player)}. {' '.join(found)} {_found(WALL, board, world)} "
        f"push {names(boxes)} from {name(walk[-2])}. walk {names(walk)}. "
        f"{step_words(walk[0], walk[1], world)}"
    )


def _found(role: str, board: Board, world: World) -> str:
    return found_sentence(role, world.marks[role], board.cells(world.marks[role]))


def messages(board: Board, world: World) -> tuple[Message, ...]:
    """The plain messages: the board and the allowed actions."""
    return (prompt(GAME, render(board.player, board.things), world.controls.values()),)


def happening(
    board: Board, state: State, world: World, letter: str | None, after: State
) -> Happening:
    """What a turn brought: the action read (if any), and what was found ``after`` it."""
    if letter is None:
        return NO_ACTION
    box, target = world.marks[BOX], world.marks[TARGET]
    if after == state:
        return _stopped(board, state, world, letter)
    step = stepped(letter, state.player, after.player)
    if after.box == state.box:
        return step
    words = f"{box} was pushed from {name(state.box)} to {name(after.box)}."
    push = Happening(words, (mark_sentence(BOX, box),))
    if board.things.get(after.box) != target:
        return joined([step, push])
    return joined([step, push, entered(after.box, target, TARGET, "you won")])


def _stopped(board: Board, state: State, world: World, letter: str) -> Happening:
    way = world.direction_of(letter)
    ahead = None if way is None else ahead_of(state.player, way)
    if way is None or ahead is None:
        return refused(letter, state.player)
    role = BOX if ahead == state.box else WALL
    mark = world.marks[role]
    why = "could not push" if role == BOX else "ran into"
    words = f"[{letter}] at {name(state.player)} {why} {mark} at {name(ahead)}."
    return Happening(words, (control_sentence(way, letter), mark_sentence(role, mark)))


def draw_room(rng: random.Random) -> Room:
    """A room that is not held out: walked like TextArena's, or with a few walls anywhere."""
    while True:
        if rng.random() < 0.5:
            walls = walked_walls(rng)
        else:
            walls = frozenset(rng.sample(CELLS, rng.choice((0, 1, 1, 1, 2, 3, 4))))
        floor = [cell for cell in CELLS if cell not in walls]
        targets = min(rng.choice((1, 1, 2, 3)), len(floor) - 3)
        if targets < 1:
            continue
        room = Room(walls, frozenset(rng.sample(floor, targets)))
        if not is_held_out(room) and distance_to_solved(room):
            return room


_MASKS = (
    ((0, -1), (0, 0), (0, 1)),
    ((-1, 0), (0, 0), (1, 0)),
    ((0, -1), (0, 0), (1, 0)),
    ((0, -1), (0, 0), (1, -1), (1, 0)),
    ((0, 0), (0, 1), (1, 0)),
)


def walked_walls(rng: random.Random) -> frozenset[Cell]:
    """Walls left by a random walk that lays floor in five shapes, as TextArena's rooms are made."""
    floor: set[Cell] = set()
    ways = list(DIRECTIONS.values())
    way = rng.choice(ways)
    row, column = rng.randint(0, SIZE), rng.randint(0, SIZE)
    for _ in range(20):
        if rng.random() < 0.35:
            way = rng.choice(ways)
        row = max(min(row + way[0], SIZE - 1), 0)
        column = max(min(column + way[1], SIZE - 1), 0)
        floor.update((row + down, column + right) for down, right in rng.choice(_MASKS))
    return frozenset(cell for cell in CELLS if cell not in floor)


def draw_position(rng: random.Random) -> tuple[Room, State, frozenset[Cell]]:
    """A room that can be solved, at any stage of play, with up to three cells of rubble."""
    room = draw_room(rng)
    far = distance_to_solved(room)
    # Depths are drawn before states: far ones are rare among states and common among starts.
    depth = rng.randint(1, min(max(far.values()), 12))
    state = rng.choice([state for state, steps in far.items() if steps == depth])
    free = [cell for cell in CELLS if cell not in room.walls and cell not in room.targets]
    return room, state, frozenset(rng.sample(free, min(len(free), rng.randint(0, 3))))


def draw(rng: random.Random) -> Conversation:
    """One turn of a room: told all, a part or nothing; what was not told is guessed."""
    world = draw_world(rng, ROLES)
    board = board_of(*draw_position(rng), world)
    telling = draw_telling(rng, world)
    belief = believed_world(rng, world, telling.known, lambda guess: is_solvable(board, guess))
    kind = "sokoban" if telling.known else "sokoban_plain"
    reply = worked_reply(rng, board, belief)
    return Conversation(kind, (*telling.messages, *messages(board, world)), reply)
