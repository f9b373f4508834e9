"""Rewrite ``data/sokoban_rooms.json``: python -m opcd_bench.tasks._sokoban_rooms (20 seconds).

Rooms of TextArena's generator at seeds 0, 1, 2, … are kept if they take 4 to 8 steps and if none
before had the same walls and target. Those that the built-in model's pre-training holds out become
test, then dev; the others become train. The file is stored so that splits do not move with
TextArena's version.
"""

from __future__ import annotations

import json
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from opcd_bench.tasks.sokoban import ROOMS_FILE, SIZES, STEPS, read_room

from opcd_bench.micro.world import sokoban
from opcd_bench.textarena import generated_sokoban_room


def rooms() -> tuple[dict[str, list[str]], dict[str, int], int]:
    """Rooms by split, how many of all rooms take so many steps, and the number of seeds used."""
    splits: dict[str, list[str]] = {split: [] for split in SIZES}
    steps_taken: Counter[int] = Counter()
    seen = set()
    seed = 0
    while any(len(splits[split]) < size for split, size in SIZES.items()):
        text = generated_sokoban_room(seed)
        seed += 1
        room, state = read_room(text)
        steps = sokoban.distance_to_solved(room)[state]
        steps_taken[steps] += 1
        if room in seen or steps not in STEPS:
            continue
        seen.add(room)
        wanted = ("test", "dev") if sokoban.is_held_out(room) else ("train",)
        split = next((name for name in wanted if len(splits[name]) < SIZES[name]), None)
        if split is not None:
            splits[split].append(text)
    counts = {str(steps): count for steps, count in sorted(steps_taken.items())}
    return splits, counts, seed


def main() -> None:
    """Write the file."""
    splits, counts, seeds = rooms()
    record = {
        "how": "python -m opcd_bench.tasks._sokoban_rooms",
        "textarena": version("textarena"),
        "seeds": seeds,
        "steps_of_all_rooms": counts,
        **splits,
    }
    Path(ROOMS_FILE).write_text(json.dumps(record, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
