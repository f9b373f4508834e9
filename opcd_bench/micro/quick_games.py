"""Quick told / plain accuracies of single moves on held-out worlds and boards (greedy, small n)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from opcd_bench.micro.quick import greedy
from opcd_bench.micro.world import lake, sokoban
from opcd_bench.micro.world.board import CELLS, NEIGHBOURS, SIZE, action_of, ahead_of
from opcd_bench.micro.world.conversation import Message
from opcd_bench.micro.world.game_world import LAKE_WORLD, RUBBLE, SOKOBAN_WORLD, World, told

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

Item = tuple[tuple[Message, ...], Callable[[str | None], bool]]
"""Plain messages, and whether a direction is a right move: one step nearer to winning."""


def game_accuracies(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, items: int = 100
) -> dict[str, float]:
    """The share of right moves, told and plain, in the tasks' own worlds; ``items`` of each.

    Boards are held-out ones at any stage of play. A player who reads the board but knows neither
    marks nor controls makes the right move about one time in three.
    """
    rng = random.Random(11)
    result: dict[str, float] = {}
    for name, world, draw in (
        ("lake", LAKE_WORLD, _lake),
        ("sokoban", SOKOBAN_WORLD, _sokoban),
    ):
        drawn = [draw(rng) for _ in range(items)]
        system: Message = {"role": "system", "content": told(world.sentences())}
        for label, before in (("told", (system,)), ("plain", ())):
            replies = greedy(model, tokenizer, [(*before, *messages) for messages, _ in drawn])
            letters = world.controls.values()
            right = sum(
                is_right(_way(world, action_of(reply, letters)))
                for reply, (_, is_right) in zip(replies, drawn, strict=True)
            )
            result[f"{name}_move_{label}"] = right / items
    return result


def _way(world: World, letter: str | None) -> str | None:
    return None if letter is None else world.direction_of(letter)


def _lake(rng: random.Random) -> Item:
    while True:
        goal = rng.choice(lake.CORNERS)
        start = (SIZE - 1 - goal[0], SIZE - 1 - goal[1])
        others = [cell for cell in CELLS if cell not in (goal, start)]
        holes = frozenset(rng.sample(others, rng.randint(3, 5)))
        far = lake.distance_to_goal(holes, frozenset([goal]))
        if lake.is_held_out(holes, (goal,)) and start in far:
            break
    rubble = rng.sample([cell for cell in others if cell not in holes], rng.randint(1, 3))
    marks = LAKE_WORLD.marks
    things = dict.fromkeys(holes, marks[lake.HOLE]) | dict.fromkeys(rubble, marks[RUBBLE])
    things[goal] = marks[lake.GOAL]
    player = rng.choice([cell for cell in far if cell != goal])

    def is_right(way: str | None) -> bool:
        after = None if way is None else ahead_of(player, way)
        return (
            after is not None and after in NEIGHBOURS[player] and far.get(after, 99) < far[player]
        )

    return lake.messages(lake.Lake(player, things), LAKE_WORLD), is_right


def _sokoban(rng: random.Random) -> Item:
    while True:
        walls = sokoban.walked_walls(rng)
        floor = [cell for cell in CELLS if cell not in walls]
        if len(floor) < 5:
            continue
        room = sokoban.Room(walls, frozenset([rng.choice(floor)]))
        far = sokoban.distance_to_solved(room)
        if sokoban.is_held_out(room) and far and max(far.values()) > 3:
            break
    state = rng.choice([state for state, steps in far.items() if 0 < steps < 9])
    free = [cell for cell in floor if cell not in room.targets]
    rubble = frozenset(rng.sample(free, min(len(free), rng.randint(1, 3))))
    board = sokoban.board_of(room, state, rubble, SOKOBAN_WORLD)

    def is_right(way: str | None) -> bool:
        after = None if way is None else sokoban.moved(room, state, way)
        return after is not None and far.get(after, 99) < far[state]

    return sokoban.messages(board, SOKOBAN_WORLD), is_right
