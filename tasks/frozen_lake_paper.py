"""Frozen Lake as arXiv 2602.12275 plays it: three by three cells, two holes, five turns.

The start is top left, the goal bottom right, so there are 19 maps that can be won, and no more.
That paper draws its training and its test maps from these same 19; here each map is in one split
(8 train, 4 dev, 7 test), and `eval_samples` takes several samples of each. Seven maps are few: read
the floors, and prefer ``frozen_lake``, which has thousands.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence

from opcd_bench.tasks._paper_game import TURNS, WAYS, PaperGame, moved, prompt

from opcd_bench import BestPossible, Example, Floor, Message, Split, seed_of
from opcd_bench.envs.floors import BoardGame, best_plan, floors, share_won
from opcd_bench.envs.game import Play, Played
from opcd_bench.envs.textarena import Cell
from opcd_bench.envs.textarena import FrozenLakeGame as TextArenaLake
from opcd_bench.envs.worlds.board import DIRECTIONS, distances
from opcd_bench.envs.worlds.game_world import NO_ACTION, Happening, joined

SIZE = 3
HOLES = 2
START: Cell = (0, 0)
GOAL: Cell = (SIZE - 1, SIZE - 1)
SIZES: Mapping[Split, int] = {"test": 7, "dev": 4, "train": 8}
Holes = frozenset[Cell]


class FrozenLakePaper(PaperGame):
    """Episodes of up to five turns; won or lost by TextArena's verdict."""

    name = "frozen_lake_paper"
    version = 1
    summary = "Frozen Lake 3x3 with 2 holes, as in arXiv 2602.12275, but its 19 maps split by map"
    lessons = "frozen_lake_experience"

    def examples(self, split: Split) -> Sequence[Example]:
        """Maps in the order of a hash; the splits share none."""
        return _examples()[split]

    def play_of(self, example: Example) -> Play:
        """The board in TextArena."""
        return _LakePlay(_holes(example))

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        """Uniform random moves, the best plan for the split, and the best plan for all 19 maps."""
        return _floors(examples)

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        """The share of maps with a way to the goal within the turn limit."""
        ways = [_distances(_holes(example))[START] for example in examples]
        share = sum(steps <= TURNS for steps in ways) / len(ways)
        return BestPossible(share, f"maps with a way of at most {TURNS} steps (breadth first)")


class _LakePlay(Play):
    """A map in TextArena, shown as TextArena draws it."""

    def __init__(self, holes: Holes) -> None:
        self._holes = holes
        self.game = TextArenaLake(SIZE, START, GOAL, holes)

    def observe(self) -> Message:
        return prompt(self.game.rendered())

    def play(self, action: str | None) -> Played:
        before = self.game.player
        verdict = self.game.step(None if action is None else WAYS[action])
        happening = NO_ACTION if action is None else self._told(action, before, self.game.player)
        return Played(verdict, happening, "fell into a hole")

    def _told(self, action: str, before: Cell, after: Cell) -> Happening:
        step = moved(action, before, after)
        if after in self._holes:
            return joined([step, Happening("H was there: the game is lost.")])
        if after == GOAL:
            return joined([step, Happening("G was there: the game is won.")])
        return step


def ahead_of(cell: Cell, way: str) -> Cell | None:
    """The neighbour in a direction; None off the board."""
    row, column = cell[0] + DIRECTIONS[way][0], cell[1] + DIRECTIONS[way][1]
    return (row, column) if 0 <= row < SIZE and 0 <= column < SIZE else None


def maps() -> list[Holes]:
    """The holes of every map that can be won, in the order of a hash."""
    cells = [(row, column) for row in range(SIZE) for column in range(SIZE)]
    free = [cell for cell in cells if cell not in (START, GOAL)]
    found = [frozenset(holes) for holes in itertools.combinations(free, HOLES)]
    won = [holes for holes in found if START in _distances(holes)]
    return sorted(won, key=lambda holes: seed_of("frozen_lake_paper", str(sorted(holes))))


def _distances(holes: Holes) -> Mapping[Cell, int]:
    def dry(cell: Cell) -> Iterable[Cell]:
        ahead = (ahead_of(cell, way) for way in DIRECTIONS)
        return [at for at in ahead if at is not None and at not in holes]

    return distances([GOAL], dry)


def _holes(example: Example) -> Holes:
    return frozenset((row, column) for row, column in example.content["holes"])


@functools.cache
def _examples() -> Mapping[Split, Sequence[Example]]:
    left = iter(maps())
    return {
        split: [
            Example({"holes": [list(cell) for cell in sorted(holes)]})
            for holes in itertools.islice(left, size)
        ]
        for split, size in SIZES.items()
    }


def _board(holes: Holes) -> BoardGame[Cell]:
    return BoardGame(START, ahead_of, lambda at: at == GOAL, lambda at: at in holes)


def _floors(examples: Sequence[Example]) -> tuple[Floor, ...]:
    boards = [_board(_holes(example)) for example in examples]
    every = [_board(holes) for holes in maps()]
    plan, share = best_plan(every, TURNS)
    of_all = Floor(
        "best plan for all maps",
        share_won(boards, plan),
        f"{' '.join(plan)}, which wins {share:.1%} of the {len(every)} maps (of the 128 draws from "
        "them that arXiv 2602.12275 tests on, down right right down wins 41.4%)",
    )
    return (*floors(boards, TURNS), of_all)


TASK = FrozenLakePaper
