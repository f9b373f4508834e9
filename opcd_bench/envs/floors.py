"""What players without context win: uniform random moves, and the best plan fixed in advance.

Games are small enough to be tables: every board's states under TextArena's rules (one invalid move
tolerated, a second one in a row loses), so the random player's value is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from opcd_bench.envs.task import Floor
from opcd_bench.envs.worlds.board import DIRECTIONS

if TYPE_CHECKING:
    import numpy as np

State = TypeVar("State", bound=Hashable)
WAYS = tuple(DIRECTIONS)
LOST, WON = 0, 1
BEAM = 4096
"""All plans of six moves fit; longer ones are kept by how many boards they can still win."""


@dataclass(frozen=True)
class BoardGame(Generic[State]):
    """A game for the tables: ``step`` gives None for an invalid move."""

    start: State
    step: Callable[[State, str], State | None]
    is_won: Callable[[State], bool]
    is_lost: Callable[[State], bool]


def floors(boards: Sequence[BoardGame[Any]], turns: int) -> tuple[Floor, Floor]:
    """The two floors, as shares of ``boards`` won within ``turns`` moves."""
    table_BSA = _tables(boards)
    plan, share = _best_plan(table_BSA, turns)
    return (
        Floor(
            "uniform random",
            _random_share(table_BSA, turns),
            f"each of the four moves with probability 1/4 for up to {turns} turns; exact (dynamic "
            "programming over all states)",
        ),
        Floor(
            "best blind plan",
            share,
            f"one fixed sequence of up to {turns} moves for every board: {' '.join(plan)}; "
            f"exhaustive up to six moves, then a beam of {BEAM:,}; chosen on the split itself",
        ),
    )


def best_plan(boards: Sequence[BoardGame[Any]], turns: int) -> tuple[list[str], float]:
    """The moves, fixed in advance, that win most of ``boards``, and the share that they win."""
    return _best_plan(_tables(boards), turns)


def share_won(boards: Sequence[BoardGame[Any]], plan: Sequence[str]) -> float:
    """The share of ``boards`` that a plan wins."""
    import numpy as np

    table_BSA = _tables(boards)
    board_B = np.arange(len(table_BSA))
    state_B = np.full(len(table_BSA), 2)
    for way in plan:
        state_B = table_BSA[board_B, state_B, WAYS.index(way)]
    return float((state_B == WON).mean())


def _tables(boards: Sequence[BoardGame[Any]]) -> np.ndarray[Any, Any]:
    """Next state by board, state and way; states 0 and 1 are lost and won, 2 is the start."""
    import numpy as np

    tables = [_table(board) for board in boards]
    most = max(len(table) for table in tables)
    table_BSA = np.zeros((len(tables), most, len(WAYS)), dtype=np.int64)
    for place, table in enumerate(tables):
        table_BSA[place, : len(table)] = table
    return table_BSA


def _table(board: BoardGame[State]) -> list[list[int]]:
    numbers: dict[tuple[State, bool], int] = {(board.start, False): 2}
    waiting = [(board.start, False)]
    table = [[LOST] * len(WAYS), [WON] * len(WAYS)]
    for state, was_refused in waiting:  # grows while it is read
        row = []
        for way in WAYS:
            after = board.step(state, way)
            if after is None and was_refused:
                row.append(LOST)
                continue
            key = (state, True) if after is None else (after, False)
            if after is not None and board.is_won(after):
                row.append(WON)
            elif after is not None and board.is_lost(after):
                row.append(LOST)
            else:
                if key not in numbers:
                    numbers[key] = len(numbers) + 2
                    waiting.append(key)
                row.append(numbers[key])
        table.append(row)
    return table


def _random_share(table_BSA: np.ndarray[Any, Any], turns: int) -> float:
    import numpy as np

    value_BS = np.zeros(table_BSA.shape[:2])
    value_BS[:, WON] = 1.0
    board_B11 = np.arange(len(table_BSA))[:, None, None]
    for _ in range(turns):
        value_BS = value_BS[board_B11, table_BSA].mean(axis=2)
    return float(value_BS[:, 2].mean())


def _best_plan(table_BSA: np.ndarray[Any, Any], turns: int) -> tuple[list[str], float]:
    """The plan that wins most boards, and the share that it wins."""
    import numpy as np

    can_win_BS = np.zeros(table_BSA.shape[:2], dtype=bool)
    can_win_BS[:, WON] = True
    board_B11 = np.arange(len(table_BSA))[:, None, None]
    within = [can_win_BS]
    for _ in range(turns):
        within.append(within[-1][board_B11, table_BSA].any(axis=2))

    boards, states = table_BSA.shape[:2]
    flat = table_BSA.astype(np.int32).ravel()
    first_B = np.arange(boards, dtype=np.int32) * states
    state_PB = np.full((1, boards), 2, dtype=np.int32)
    plans: list[tuple[int, ...]] = [()]
    for turn in range(1, turns + 1):
        place_PB = (state_PB + first_B) * len(WAYS)
        state_PB = np.concatenate([flat.take(place_PB + way) for way in range(len(WAYS))])
        plans = [(*plan, way) for way in range(len(WAYS)) for plan in plans]
        hope_P = within[turns - turn].ravel().take(state_PB + first_B).sum(axis=1)
        kept = np.argsort(-hope_P, kind="stable")[:BEAM]
        state_PB, plans = state_PB[kept], [plans[place] for place in kept]
    won_P = (state_PB == WON).mean(axis=1)
    best = int(won_P.argmax())
    return [WAYS[way] for way in plans[best]], float(won_P[best])
