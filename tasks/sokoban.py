"""Sokoban: TextArena's game with one box in a room whose marks and controls are told or not at all.

Rooms come from TextArena's generator at 6x6 (4x4 inside the outer wall, which is not drawn). One
to three cells of rubble, which does nothing, are drawn on free floor by us. The controls are four
letters whose directions the context tells.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from opcd_bench.tasks._rooms import board_of, read_room, stored_rooms

from opcd_bench import BestPossible, Example, Floor, Message, Split, generator
from opcd_bench.envs.floors import floors
from opcd_bench.envs.game import Play, Played, WorldGameTask
from opcd_bench.envs.textarena import SokobanGame as TextArenaSokoban
from opcd_bench.envs.worlds import sokoban
from opcd_bench.envs.worlds.board import CELLS, cell_of, name
from opcd_bench.envs.worlds.game_world import SOKOBAN_WORLD
from opcd_bench.envs.worlds.sokoban import Room, State

SIZES: Mapping[Split, int] = {"train": 1500, "dev": 200, "test": 400}
STEPS = range(4, 9)
"""Rooms of fewer steps are won by chance or by a fixed plan; of longer ones there are too few."""
TURNS = 12
ROOMS_FILE = Path(__file__).parent / "data" / "sokoban_rooms.json"


class Sokoban(WorldGameTask):
    """Episodes of up to twelve turns; won or lost by TextArena's verdict."""

    name = "sokoban"
    version = 1
    summary = "TextArena's Sokoban, 6x6, one box; what marks mean and controls do is in the context"
    max_turns = TURNS
    world = SOKOBAN_WORLD

    def examples(self, split: Split) -> Sequence[Example]:
        """Rooms, no two of them with the same walls and target; dev and test were never met."""
        return _examples()[split]

    def play_of(self, example: Example) -> Play:
        """The board in TextArena."""
        return _RoomPlay(example)

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        """Uniform random moves, and the best plan fixed in advance."""
        return floors([board_of(*_start(example)) for example in examples], TURNS)

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        """The share of rooms that can be solved within the turn limit."""
        steps = [sokoban.distance_to_solved(room)[state] for room, state in map(_start, examples)]
        share = sum(count <= TURNS for count in steps) / len(steps)
        return BestPossible(
            share, f"rooms that {TURNS} steps can solve (breadth first over all states)"
        )


class _RoomPlay(Play):
    """A room in TextArena, re-drawn in the world's notation with rubble added."""

    def __init__(self, example: Example) -> None:
        self._room, start = _start(example)
        self._rubble = frozenset(cell_of(text) for text in example.content["rubble"])
        (target,) = self._room.targets
        self.game = TextArenaSokoban(4, self._room.walls, target, start.box, start.player)

    def observe(self) -> Message:
        return sokoban.messages(self._seen(), SOKOBAN_WORLD)[0]

    def play(self, action: str | None) -> Played:
        before, board = self._state(), self._seen()
        verdict = self.game.step(None if action is None else SOKOBAN_WORLD.direction_of(action))
        happening = sokoban.happening(board, before, SOKOBAN_WORLD, action, self._state())
        return Played(verdict, happening)

    def _state(self) -> State:
        return State(self.game.player, self.game.box)

    def _seen(self) -> sokoban.Board:
        return sokoban.board_of(self._room, self._state(), self._rubble, SOKOBAN_WORLD)


@functools.cache
def _examples() -> Mapping[Split, Sequence[Example]]:
    return {
        split: [_example(text) for text in of] for split, of in stored_rooms(ROOMS_FILE).items()
    }


def _example(text: str) -> Example:
    room, state = read_room(text)
    taken = {*room.walls, *room.targets, *state}
    free = [cell for cell in CELLS if cell not in taken]
    rng = generator("sokoban", "rubble", text)
    rubble = rng.sample(free, min(len(free), rng.randint(1, 3)))
    return Example({"room": text, "rubble": [name(cell) for cell in sorted(rubble)]})


def _start(example: Example) -> tuple[Room, State]:
    return read_room(example.content["room"])


TASK = Sokoban
