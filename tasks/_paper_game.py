"""What the games of arXiv 2602.12275 share: its prompts' information, in words of our own.

The plain prompt says who the player is and what may be answered; what any other symbol of the
board means, and how the game is won, is for a context to tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from opcd_bench.tasks._prompts import shipped

from opcd_bench import Context, Message
from opcd_bench.envs.game import GameTask
from opcd_bench.envs.worlds.game_world import Happening

WAYS: Mapping[str, str] = {
    **{way: way for way in ("up", "down", "left", "right")},
    **{"w": "up", "a": "left", "s": "down", "d": "right"},
}
"""The eight allowed actions, and where each goes."""

TURNS = 5

_ACTION = re.compile(rf"\[\s*({'|'.join(WAYS)})\s*\]", re.IGNORECASE)
_PROMPT = """\
You are playing a game on a board, where P is you. In every turn you choose the best action.

The board is now:

{board}

Allowed actions: {actions}
Finish with the action of your choice in its brackets; if you name several, the last is taken."""


class PaperGame(GameTask):
    """A game of at most five turns; a context goes between the role and the board.

    A subclass also sets ``lessons``, the name of the context that ships for it.
    """

    max_turns = TURNS
    lessons: str

    def context(self) -> Context:
        """Lessons about the game, written by hand, with a caveat."""
        return Context(shipped(self.lessons), "inside")

    def action_of(self, reply: str) -> str | None:
        """The last allowed action, in any case of letters."""
        found = _ACTION.findall(reply)
        return str(found[-1]).lower() if found else None


def prompt(board: str) -> Message:
    """The plain user message for a board as TextArena draws it."""
    actions = " ".join(f"[{action}]" for action in WAYS)
    return {"role": "user", "content": _PROMPT.format(board=board.strip("\n"), actions=actions)}


def place(cell: tuple[int, int]) -> str:
    """``row 1, column 2``, from 1."""
    return f"row {cell[0] + 1}, column {cell[1] + 1}"


def moved(action: str, before: tuple[int, int], after: tuple[int, int]) -> Happening:
    """What the environment says of a step, or of one that was refused."""
    if after == before:
        return Happening(f"[{action}] was refused: P stayed at {place(before)}.")
    return Happening(f"[{action}] moved P from {place(before)} to {place(after)}.")
