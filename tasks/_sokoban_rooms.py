"""Rewrite the rooms in ``data/``: python -m opcd_bench.tasks._sokoban_rooms (a minute).

Rooms of TextArena's generator at seeds 0, 1, 2, …: for ``sokoban`` those that take 4 to 8 steps, if
none before had the same walls and target; for ``sokoban_paper`` all, if none before was the same.
Those whose walls and target the built-in model's pre-training holds out become test, then dev; the
others become train, so that no two splits share walls and target. The files are stored so that
splits do not move with TextArena's version.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from opcd_bench.tasks import sokoban as larger
from opcd_bench.tasks import sokoban_paper as paper
from opcd_bench.tasks._rooms import read_room

from opcd_bench import Split
from opcd_bench.envs.textarena import generated_sokoban_room
from opcd_bench.envs.worlds import sokoban
from opcd_bench.envs.worlds.sokoban import Room


@dataclass(frozen=True)
class RoomRecipe:
    """What a data file holds: ``steps`` None takes rooms of any length."""

    file: Path
    sizes: Mapping[Split, int]
    steps: Container[int] | None
    one_a_room: bool


RECIPES = (
    RoomRecipe(larger.ROOMS_FILE, larger.SIZES, larger.STEPS, one_a_room=True),
    RoomRecipe(paper.ROOMS_FILE, paper.SIZES, None, one_a_room=False),
)


@dataclass(frozen=True)
class Found:
    """Rooms by split, how many of all rooms take so many steps, and the number of seeds used."""

    splits: dict[Split, list[str]]
    steps: Counter[int]
    seeds: int


def rooms(recipe: RoomRecipe) -> Found:
    """The rooms of a recipe."""
    splits: dict[Split, list[str]] = {split: [] for split in recipe.sizes}
    steps_taken: Counter[int] = Counter()
    seen: set[object] = set()
    home: dict[Room, Split] = {}
    seed = 0

    def open_splits(names: tuple[Split, ...]) -> Iterator[Split]:
        return (name for name in names if len(splits[name]) < recipe.sizes[name])

    while any(open_splits(tuple(splits))):
        text = generated_sokoban_room(seed)
        seed += 1
        room, state = read_room(text)
        steps = sokoban.distance_to_solved(room)[state]
        steps_taken[steps] += 1
        same = room if recipe.one_a_room else text
        if same in seen or (recipe.steps is not None and steps not in recipe.steps):
            continue
        seen.add(same)
        anywhere: tuple[Split, ...] = ("test", "dev") if sokoban.is_held_out(room) else ("train",)
        split = next(open_splits((home[room],) if room in home else anywhere), None)
        if split is not None:
            home[room] = split
            splits[split].append(text)
    return Found(splits, steps_taken, seed)


def main() -> None:
    """Write the files."""
    for recipe in RECIPES:
        found = rooms(recipe)
        record: dict[str, Any] = {
            "how": "python -m opcd_bench.tasks._sokoban_rooms",
            "textarena": version("textarena"),
            "seeds": found.seeds,
            "steps_of_all_rooms": {str(steps): n for steps, n in sorted(found.steps.items())},
            **{str(split): texts for split, texts in found.splits.items()},
        }
        recipe.file.write_text(json.dumps(record, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
