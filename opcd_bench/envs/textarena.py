"""TextArena's single-player games on boards of our choosing; nothing here imports it before use.

The raw environments are used without TextArena's wrappers: those only reword observations, which
we never show. Their rules decide everything: what a move does, what is invalid (unreadable, off
the board, into a wall; the second one in a row loses), who has won. A chosen board is put in where
TextArena would draw one, so its generators, and the global random state that they use, are not
touched.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from opcd_bench.errors import MissingPackage

Cell = tuple[int, int]
"""Row and column, from 0."""

ENDLESS = 10_000
"""TextArena's own turn limit is lifted: the task counts replies, invalid ones too, and ends."""


@dataclass(frozen=True)
class Verdict:
    """What TextArena made of one action."""

    done: bool
    won: bool
    refused: bool
    """The action was invalid: unreadable, off the board, or into something."""
    reason: str
    """TextArena's own words where the game is over, else empty. They give rules away: not shown."""


def _environments() -> tuple[Any, Any, Any]:
    """TextArena itself, FrozenLakeEnv and SokobanEnv."""
    try:
        import textarena
        from textarena.envs.FrozenLake.env import FrozenLakeEnv
        from textarena.envs.Sokoban.env import SokobanEnv
    except ImportError as error:
        raise MissingPackage(
            "textarena", 'pip install "textarena>=0.7.4,<0.8"', f"the games need it: {error}"
        ) from error
    return textarena, FrozenLakeEnv, SokobanEnv


class _Game:
    """A TextArena environment in play."""

    env: Any

    def step(self, direction: str | None) -> Verdict:
        """Play ``up``, ``down``, ``left`` or ``right``; None is a reply without an action."""
        state = self.env.state
        allowed_before = state.error_count
        done, _ = self.env.step("" if direction is None else f"[{direction}]")
        info = state.game_info[0]
        ended_invalid = bool(info["invalid_move"])
        won = bool(done and not ended_invalid and state.rewards[0] == 1)
        refused = ended_invalid or state.error_count > allowed_before
        return Verdict(bool(done), won, refused, str(info["reason"]) if done else "")


class FrozenLakeGame(_Game):
    """TextArena's Frozen Lake on a given map; cells are (row, column) from 0."""

    def __init__(self, size: int, start: Cell, goal: Cell, holes: Collection[Cell]) -> None:
        _, frozen_lake, _ = _environments()
        grid = [
            ["H" if (row, column) in holes else " " for column in range(size)]
            for row in range(size)
        ]
        grid[goal[0]][goal[1]] = "G"
        self.env = frozen_lake(size=size, num_holes=len(holes))
        # reset() asks these for its map; `player_pos` is also what progress is measured from.
        self.env.player_pos, self.env.goal_pos = start, goal
        self.env._generate_grid = lambda randomize_start_goal: (grid, start, goal)
        self.env.reset(num_players=1, seed=None)
        self.env.state.max_turns = ENDLESS

    @property
    def player(self) -> Cell:
        """Where TextArena has the player."""
        row, column = self.env.state.game_state["player_pos"]
        return int(row), int(column)

    def rendered(self) -> str:
        """TextArena's own drawing of the board."""
        return str(self.env._render_board())


WALL, FLOOR, TARGET, BOX_ON_TARGET, BOX, PLAYER = range(6)
"""TextArena's codes for the cells of a Sokoban room."""


class SokobanGame(_Game):
    """TextArena's Sokoban with one box in a given room; the outer wall is added here."""

    def __init__(
        self, size: int, walls: Collection[Cell], target: Cell, box: Cell, player: Cell
    ) -> None:
        import numpy as np

        textarena, _, sokoban = _environments()
        fixed = np.zeros((size + 2, size + 2), dtype=int)
        fixed[1:-1, 1:-1] = FLOOR
        for row, column in walls:
            fixed[row + 1, column + 1] = WALL
        fixed[target[0] + 1, target[1] + 1] = TARGET
        now = fixed.copy()
        now[box[0] + 1, box[1] + 1] = BOX_ON_TARGET if box == target else BOX
        now[player[0] + 1, player[1] + 1] = PLAYER

        env = sokoban(dim_room=fixed.shape, max_turns=ENDLESS, num_boxes=1)
        # What SokobanEnv.reset does once its generator has given it a room.
        env.state = textarena.SinglePlayerState(num_players=1, max_turns=ENDLESS, seed=None)
        env.room_fixed, env.room_state = fixed, now
        env.box_mapping = {(target[0] + 1, target[1] + 1): (box[0] + 1, box[1] + 1)}
        env.player_position = np.array([player[0] + 1, player[1] + 1])
        env.state.reset(
            game_state={"board": env.create_board_str(now)},
            player_prompt_function=env._generate_player_prompt,
        )
        self.env = env

    @property
    def player(self) -> Cell:
        """Where TextArena has the player."""
        row, column = self.env.player_position
        return int(row) - 1, int(column) - 1

    @property
    def box(self) -> Cell:
        """Where TextArena has the box."""
        state = self.env.room_state
        row, column = ((state == BOX) | (state == BOX_ON_TARGET)).nonzero()
        return int(row[0]) - 1, int(column[0]) - 1

    def rendered(self) -> str:
        """TextArena's own drawing of the room."""
        return str(self.env.create_board_str(self.env.room_state))


def generated_sokoban_room(seed: int, size: int = 4) -> str:
    """A one-box room of TextArena's generator: ``size`` × ``size`` cells without the outer wall.

    Row by row, ``#`` wall, ``_`` floor, ``O`` target, ``X`` box, ``P`` player and ``S`` player on
    the target (TextArena draws ``P`` there and so hides the target).
    """
    _environments()
    from textarena.envs.Sokoban.utils import generate_room

    dim = (size + 2, size + 2)
    fixed, now, _ = generate_room(dim=dim, num_steps=int(1.7 * sum(dim)), num_boxes=1, seed=seed)
    cells = []
    for row in range(1, size + 1):
        for column in range(1, size + 1):
            code, under = int(now[row, column]), int(fixed[row, column])
            cells.append("S" if code == PLAYER and under == TARGET else "#_O√XP"[code])
    return "".join(cells)
