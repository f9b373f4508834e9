"""Reflection on games: from an attempt and its feedback, the rules in the context's own words.

Attempts are mostly those of a player who was told nothing and mostly fails; feedback has a line
for each turn. The lessons are what the feedback shows and no more, each once, as it appeared.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from opcd_bench.envs.worlds import lake, sokoban
from opcd_bench.envs.worlds.board import ahead_of
from opcd_bench.envs.worlds.conversation import Conversation, Message
from opcd_bench.envs.worlds.game_world import (
    REFUSED_TWICE,
    TURNS_OVER,
    Happening,
    World,
    believed_world,
    draw_world,
    joined,
)
from opcd_bench.envs.worlds.reflection import reflection_messages, reflection_reply

Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Game(Generic[Seen]):
    """What an attempt needs: positions to play from, and what a step makes of one."""

    name: str
    roles: tuple[str, ...]
    start: Callable[[random.Random, World], Seen]
    messages: Callable[[Seen, World], tuple[Message, ...]]
    reply: Callable[[random.Random, Seen, World], str]
    fits: Callable[[Seen, World], bool]
    step: Callable[[Seen, World, str], tuple[Happening, Seen, bool, bool]]
    """(position, world, letter) -> what happened, the next position, over, refused."""


def _lake_step(
    before: lake.Lake, world: World, letter: str
) -> tuple[Happening, lake.Lake, bool, bool]:
    after = ahead_of(before.player, world.direction_of(letter) or "")
    found = before.player if after is None else after
    over = before.things.get(found) in (world.marks[lake.HOLE], world.marks[lake.GOAL])
    words = lake.happening(before, world, letter, found)
    return words, lake.Lake(found, before.things), over, after is None


@dataclass(frozen=True)
class _Position:
    """A room in play; ``hidden`` is what lies under box and player."""

    room: sokoban.Room
    state: sokoban.State
    rubble: frozenset[tuple[int, int]]
    world: World

    @property
    def board(self) -> sokoban.Board:
        """What is seen."""
        return sokoban.board_of(self.room, self.state, self.rubble, self.world)


def _sokoban_start(rng: random.Random, world: World) -> _Position:
    room, state, rubble = sokoban.draw_position(rng)
    return _Position(room, state, rubble, world)


def _sokoban_step(
    before: _Position, world: World, letter: str
) -> tuple[Happening, _Position, bool, bool]:
    after = sokoban.moved(before.room, before.state, world.direction_of(letter) or "")
    found = before.state if after is None else after
    words = sokoban.happening(before.board, before.state, world, letter, found)
    over = found.box in before.room.targets
    return words, _Position(before.room, found, before.rubble, world), over, after is None


LAKE: Game[lake.Lake] = Game(
    name="lake",
    roles=lake.ROLES,
    start=lake.draw_lake,
    messages=lake.messages,
    reply=lake.worked_reply,
    fits=lake.is_winnable,
    step=_lake_step,
)

SOKOBAN: Game[_Position] = Game(
    name="sokoban",
    roles=sokoban.ROLES,
    start=_sokoban_start,
    messages=lambda seen, world: sokoban.messages(seen.board, world),
    reply=lambda rng, seen, world: sokoban.worked_reply(rng, seen.board, world),
    fits=lambda seen, world: sokoban.is_solvable(seen.board, world),
    step=_sokoban_step,
)


def _attempt(rng: random.Random, game: Game[Seen]) -> Conversation | None:
    """An attempt of up to eight turns and its lessons; None where it teaches nothing."""
    world = draw_world(rng, game.roles)
    knows = rng.random() < 0.35
    position = game.start(rng, world)
    first = game.messages(position, world)
    limit = rng.choice((1, 2, 3, 4, 5, 6, 8))
    happenings: list[Happening] = []
    refusals, over, ending = 0, False, ""
    shown, reply, letter = first, "", ""
    while not over and len(happenings) < limit:
        if not game.fits(position, world):
            break  # A box that is stuck: nothing worked can be said of this board.
        shown = game.messages(position, world)
        told = set(world.marks) | set(world.controls) if knows else set()
        belief = believed_world(rng, world, told, functools.partial(game.fits, position))
        reply = game.reply(rng, position, belief)
        letter = reply[reply.rindex("[") + 1 : reply.rindex("]")]
        happened, position, over, was_refused = game.step(position, world, letter)
        happenings.append(happened)
        refusals = refusals + 1 if was_refused else 0
        if refusals == 2:
            over, ending = True, REFUSED_TWICE
    if not over and rng.random() < 0.5:
        ending = TURNS_OVER
    lessons = joined(happenings).lessons
    if not lessons:
        return None
    feedback = "\n".join([*(one.words for one in happenings), *([ending] if ending else [])])
    problem = shown if rng.random() < 0.6 else first
    asked = tuple(reflection_messages(problem, reply, feedback))
    return Conversation(f"{game.name}_reflection", asked, reflection_reply(lessons))


def draw(rng: random.Random) -> Conversation:
    """One reflection on an attempt at a lake or a room."""
    is_lake = rng.random() < 0.6
    while True:
        found = _attempt(rng, LAKE) if is_lake else _attempt(rng, SOKOBAN)
        if found is not None:
            return found
