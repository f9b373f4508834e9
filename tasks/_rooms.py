"""The data files of Sokoban rooms, read as rooms, starts and boards for the floors."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from opcd_bench import SPLITS, DataError, Split
from opcd_bench.envs.floors import BoardGame
from opcd_bench.envs.worlds import sokoban
from opcd_bench.envs.worlds.board import CELLS
from opcd_bench.envs.worlds.sokoban import Room, State


def stored_rooms(file: Path) -> dict[Split, list[str]]:
    """The rooms of a data file by split, as texts that `read_room` can read; or DataError."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        splits: dict[Split, list[str]] = {split: list(record[split]) for split in SPLITS}
        for texts in splits.values():
            for text in texts:
                read_room(text)
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{file}: cannot be read as rooms ({error}); "
            "rewrite it: python -m opcd_bench.tasks._sokoban_rooms"
        ) from error
    return splits


def read_room(text: str) -> tuple[Room, State]:
    """A room of a data file: sixteen of ``#`` wall, ``_`` floor, ``O`` target, ``X`` box, ``P``
    player, ``S`` player on the target, row by row.
    """
    at = dict(zip(CELLS, text, strict=True))
    walls = frozenset(cell for cell in CELLS if at[cell] == "#")
    targets = frozenset(cell for cell in CELLS if at[cell] in "OS")
    (player,) = (cell for cell in CELLS if at[cell] in "PS")
    (box,) = (cell for cell in CELLS if at[cell] == "X")
    return Room(walls, targets), State(player, box)


def board_of(room: Room, start: State) -> BoardGame[State]:
    """A room for the floors."""
    return BoardGame(
        start,
        functools.partial(sokoban.moved, room),
        lambda state: state.box in room.targets,
        lambda state: False,
    )
