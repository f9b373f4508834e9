"""Frozen Lake: TextArena's game on a board whose marks and controls are told or not at all.

Four by four cells, 3 to 5 holes, the start in any corner and the goal in the opposite one. One to
three cells of rubble, which does nothing, are drawn on safe cells by us, so that a mark's count
does not give it away. The controls are four letters whose directions the context tells.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence

from opcd_bench import BestPossible, Example, Floor, Message, Split, generator
from opcd_bench.envs.floors import BoardGame, floors
from opcd_bench.envs.game import Play, Played, WorldGameTask
from opcd_bench.envs.textarena import FrozenLakeGame as TextArenaLake
from opcd_bench.envs.worlds import lake
from opcd_bench.envs.worlds.board import CELLS, Cell, ahead_of, cell_of, name, names
from opcd_bench.envs.worlds.game_world import LAKE_WORLD

SIZES: Mapping[Split, int] = {"train": 1500, "dev": 200, "test": 500}
TURNS = 10
"""Every map can be won in six."""


class FrozenLake(WorldGameTask):
    """Episodes of up to ten turns; won or lost by TextArena's verdict."""

    name = "frozen_lake"
    version = 1
    summary = "TextArena's Frozen Lake, 4x4; what marks mean and controls do is in the context"
    max_turns = TURNS
    world = LAKE_WORLD

    def examples(self, split: Split) -> Sequence[Example]:
        """Maps; dev and test are made of maps that the built-in model never met."""
        return _examples()[split]

    def play_of(self, example: Example) -> Play:
        """The board in TextArena."""
        return _LakePlay(example)

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        """Uniform random moves, and the best plan fixed in advance."""
        return floors([_board(example) for example in examples], TURNS)

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        """The share of maps with a way to the goal within the turn limit."""
        maps = [_Map(example) for example in examples]
        won = sum(m.distances[m.start] <= TURNS for m in maps)
        return BestPossible(
            won / len(maps), f"maps with a way of at most {TURNS} steps (breadth first)"
        )


class _Map:
    """An example's cells."""

    def __init__(self, example: Example) -> None:
        content = example.content
        self.start, self.goal = cell_of(content["start"]), cell_of(content["goal"])
        self.holes = frozenset(cell_of(text) for text in content["holes"])
        marks = LAKE_WORLD.marks
        self.things = {
            self.goal: marks[lake.GOAL],
            **{cell: marks[lake.HOLE] for cell in self.holes},
            **{cell_of(text): marks["rubble"] for text in content["rubble"]},
        }

    @property
    def distances(self) -> Mapping[Cell, int]:
        return lake.distance_to_goal(self.holes, frozenset([self.goal]))


class _LakePlay(Play):
    """A map in TextArena, re-drawn in the world's notation with rubble added."""

    def __init__(self, example: Example) -> None:
        self._map = _Map(example)
        self.game = TextArenaLake(4, self._map.start, self._map.goal, self._map.holes)

    def observe(self) -> Message:
        return lake.messages(self._seen(), LAKE_WORLD)[0]

    def play(self, action: str | None) -> Played:
        before = self._seen()
        verdict = self.game.step(None if action is None else LAKE_WORLD.direction_of(action))
        happening = lake.happening(before, LAKE_WORLD, action, self.game.player)
        return Played(verdict, happening, "fell into a hole")

    def _seen(self) -> lake.Lake:
        return lake.Lake(self.game.player, self._map.things)


def _maps() -> list[tuple[int, Cell, tuple[Cell, ...]]]:
    """Every goal corner with every set of 3 to 5 holes, in the order of a hash of the map."""
    found = []
    for goal in lake.CORNERS:
        others = [cell for cell in CELLS if cell not in (goal, _opposite(goal))]
        for count in (3, 4, 5):
            for holes in itertools.combinations(others, count):
                found.append((lake.map_digest(holes, (goal,)), goal, holes))
    return sorted(found)


def _opposite(corner: Cell) -> Cell:
    return 3 - corner[0], 3 - corner[1]


@functools.cache
def _examples() -> Mapping[Split, Sequence[Example]]:
    splits: dict[Split, list[Example]] = {"train": [], "dev": [], "test": []}
    for key, goal, cells in _maps():
        start, holes = _opposite(goal), frozenset(cells)
        held_out = key % lake.HELD_OUT_SHARE == 0
        wanted: tuple[Split, ...] = ("test", "dev") if held_out else ("train",)
        split = next((split for split in wanted if len(splits[split]) < SIZES[split]), None)
        if split is None or start not in lake.distance_to_goal(holes, frozenset([goal])):
            continue
        rng = generator("frozen_lake", "rubble", name(goal), names(sorted(holes)))
        safe = [cell for cell in CELLS if cell not in holes and cell not in (start, goal)]
        rubble = sorted(rng.sample(safe, rng.randint(1, 3)))
        splits[split].append(
            Example(
                {
                    "start": name(start),
                    "goal": name(goal),
                    "holes": [name(cell) for cell in sorted(holes)],
                    "rubble": [name(cell) for cell in rubble],
                }
            )
        )
    return splits


def _board(example: Example) -> BoardGame[Cell]:
    found = _Map(example)
    return BoardGame(
        found.start, ahead_of, lambda at: at == found.goal, lambda at: at in found.holes
    )


TASK = FrozenLake
