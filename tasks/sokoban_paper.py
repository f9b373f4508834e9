"""Sokoban as arXiv 2602.12275 plays it: a six by six room, one box, five turns.

Rooms are TextArena's, however many steps they take: some cannot be solved within five turns, and
many can be by chance, so read the ceiling and the floors. No two boards are the same and no two
splits share walls and target; in that paper 61 % of the test boards are in training.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from opcd_bench.tasks._paper_game import TURNS, WAYS, PaperGame, moved, place, prompt
from opcd_bench.tasks._rooms import board_of, read_room, stored_rooms

from opcd_bench import BestPossible, Example, Floor, Message, Split
from opcd_bench.envs.floors import floors
from opcd_bench.envs.game import Play, Played
from opcd_bench.envs.textarena import SokobanGame as TextArenaSokoban
from opcd_bench.envs.worlds import sokoban
from opcd_bench.envs.worlds.game_world import NO_ACTION, Happening, joined
from opcd_bench.envs.worlds.sokoban import Room, State

SIZES: Mapping[Split, int] = {"train": 1000, "dev": 128, "test": 256}
ROOMS_FILE = Path(__file__).parent / "data" / "sokoban_paper_rooms.json"


class SokobanPaper(PaperGame):
    """Episodes of up to five turns; won or lost by TextArena's verdict."""

    name = "sokoban_paper"
    version = 1
    summary = "Sokoban 6x6 with one box in five turns, as in arXiv 2602.12275, but split by room"
    lessons = "sokoban_experience"

    def examples(self, split: Split) -> Sequence[Example]:
        """Boards in the order of TextArena's seeds."""
        return _examples()[split]

    def play_of(self, example: Example) -> Play:
        """The board in TextArena."""
        return _RoomPlay(*_start(example))

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        """Uniform random moves, and the best plan fixed in advance."""
        return floors([board_of(*_start(example)) for example in examples], TURNS)

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        """The share of rooms that can be solved within the turn limit."""
        starts = [_start(example) for example in examples]
        steps = [sokoban.distance_to_solved(room)[state] for room, state in starts]
        share = sum(count <= TURNS for count in steps) / len(steps)
        return BestPossible(
            share, f"rooms that {TURNS} steps can solve (breadth first over all states)"
        )


class _RoomPlay(Play):
    """A room in TextArena, shown as TextArena draws it."""

    def __init__(self, room: Room, start: State) -> None:
        (self._target,) = room.targets
        self.game = TextArenaSokoban(4, room.walls, self._target, start.box, start.player)

    def observe(self) -> Message:
        return prompt(self.game.rendered())

    def play(self, action: str | None) -> Played:
        before = State(self.game.player, self.game.box)
        verdict = self.game.step(None if action is None else WAYS[action])
        after = State(self.game.player, self.game.box)
        return Played(verdict, NO_ACTION if action is None else self._told(action, before, after))

    def _told(self, action: str, before: State, after: State) -> Happening:
        """Rows and columns count the outer wall, since it is drawn."""
        step = moved(action, _drawn(before.player), _drawn(after.player))
        if after.box == before.box:
            return step
        push = f"X was pushed to {place(_drawn(after.box))}."
        if after.box == self._target:
            push += " O was there: the game is won."
        return joined([step, Happening(push)])


def _drawn(cell: tuple[int, int]) -> tuple[int, int]:
    return cell[0] + 1, cell[1] + 1


def _start(example: Example) -> tuple[Room, State]:
    return read_room(example.content["room"])


@functools.cache
def _examples() -> Mapping[Split, Sequence[Example]]:
    return {
        split: [Example({"room": text}) for text in texts]
        for split, texts in stored_rooms(ROOMS_FILE).items()
    }


TASK = SokobanPaper
