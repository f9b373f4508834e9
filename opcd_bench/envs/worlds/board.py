"""Boards of four by four cells: how they are named, drawn, read and walked.

A board names every cell (``a1`` … ``d4``: a letter for the row, a digit for the column) after its
mark, one row a line, so that reading it is looking up what followed a mark::

     P a1 _ a2 # a3 _ a4
     _ b1 …

``P`` is the player and ``_`` the floor; what every other mark means, and where each control moves
the player, is told by a context or not at all. A passable thing under the player is listed after
it, under the same cell name (``P b2 % b2``).
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from opcd_bench.envs.worlds.conversation import Message

SIZE = 4
Cell = tuple[int, int]
"""Row and column, from 0."""

CELLS: tuple[Cell, ...] = tuple((row, column) for row in range(SIZE) for column in range(SIZE))
DIRECTIONS: Mapping[str, Cell] = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
MARKS = ("#", "*", "&", "@", "%", "+", "=", "~", "^", "$")
CONTROLS = ("g", "h", "l", "m", "n", "o", "p", "r", "s", "t", "w", "y")
PLAYER, FLOOR = "P", "_"

_ACTION = re.compile(r"\[\s*([A-Za-z]+)\s*\]")
State = TypeVar("State")


# --- words ---


def name(cell: Cell) -> str:
    """``a1`` for row 0, column 0."""
    return f"{'abcd'[cell[0]]}{cell[1] + 1}"


def cell_of(text: str) -> Cell:
    """The cell that ``name`` gives ``text`` for."""
    return "abcd".index(text[0]), int(text[1]) - 1


def names(cells: Iterable[Cell]) -> str:
    """The cells' names with spaces between."""
    return " ".join(name(cell) for cell in cells)


def render(player: Cell, things: Mapping[Cell, str]) -> str:
    """The board as the module's docstring words it; ``things`` maps cells to marks."""
    rows = []
    for row in range(SIZE):
        parts = []
        for column in range(SIZE):
            cell = (row, column)
            if cell == player:
                parts.append(f" {PLAYER} {name(cell)}")
                if cell in things:
                    parts.append(f" {things[cell]} {name(cell)}")
            else:
                parts.append(f" {things.get(cell, FLOOR)} {name(cell)}")
        rows.append("".join(parts))
    return "\n".join(rows)


def prompt(game: str, board: str, letters: Iterable[str]) -> Message:
    """The plain user message: the game's name, the board, the allowed actions in sorted order."""
    actions = " ".join(f"[{letter}]" for letter in sorted(letters))
    content = f"{game}: choose the best action.\n{board}\nActions: {actions}"
    return {"role": "user", "content": content}


def action_of(reply: str, letters: Collection[str]) -> str | None:
    """The letter of the last allowed action in ``reply``; None where there is none."""
    found = [letter for letter in _ACTION.findall(reply) if letter in letters]
    return found[-1] if found else None


# --- moves ---


def ahead_of(cell: Cell, direction: str) -> Cell | None:
    """The neighbour in a direction; None off the board."""
    row, column = cell[0] + DIRECTIONS[direction][0], cell[1] + DIRECTIONS[direction][1]
    return (row, column) if 0 <= row < SIZE and 0 <= column < SIZE else None


def direction_between(before: Cell, after: Cell) -> str:
    """The direction from a cell to its neighbour."""
    step = (after[0] - before[0], after[1] - before[1])
    return next(way for way, known in DIRECTIONS.items() if known == step)


NEIGHBOURS: Mapping[Cell, tuple[Cell, ...]] = {
    cell: tuple(found for way in DIRECTIONS if (found := ahead_of(cell, way)) is not None)
    for cell in CELLS
}


def distances(
    ends: Iterable[State], before: Callable[[State], Iterable[State]]
) -> dict[State, int]:
    """Steps from each state to the nearest of ``ends``; ``before`` gives what leads to a state."""
    far = {end: 0 for end in ends}
    wave = list(far)
    while wave:
        found = []
        for state in wave:
            for earlier in before(state):
                if earlier not in far:
                    far[earlier] = far[state] + 1
                    found.append(earlier)
        wave = found
    return far


def random_shortest(
    rng: random.Random,
    start: State,
    far: Mapping[State, int],
    after: Callable[[State], Iterable[State]],
) -> list[State]:
    """A path of states from ``start`` to distance 0, uniform among the shortest ones."""
    ways: dict[State, int] = {}

    def count(state: State) -> int:
        if state not in ways:
            ways[state] = 1 if far[state] == 0 else sum(count(later) for later in nearer(state))
        return ways[state]

    def nearer(state: State) -> list[State]:
        return [later for later in after(state) if far.get(later, -1) == far[state] - 1]

    path = [start]
    while far[path[-1]] > 0:
        options = nearer(path[-1])
        path.append(rng.choices(options, weights=[count(later) for later in options])[0])
    return path


def digest(*parts: str) -> int:
    """A 64-bit hash of a board's content, the same on every machine; splits are made with it."""
    return int.from_bytes(hashlib.sha256("|".join(parts).encode()).digest()[:8], "big")
