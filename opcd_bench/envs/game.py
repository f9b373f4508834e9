"""A game as a task of episodes: actions from replies, turns, history, grade and feedback."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from opcd_bench.envs.task import Context, Episode, Example, Grade, Message, Task, Turn, Unreadable
from opcd_bench.envs.textarena import Verdict
from opcd_bench.envs.thinking import without_thinking
from opcd_bench.envs.worlds.board import action_of
from opcd_bench.envs.worlds.game_world import REFUSED_TWICE, TURNS_OVER, Happening, World, told
from opcd_bench.errors import ConfigError

History = Literal["last", "full"]
HISTORIES: tuple[History, ...] = get_args(History)


def checked_history(task: str, history: str) -> History:
    """``history`` where it is one; raises ConfigError."""
    for known in HISTORIES:
        if history == known:
            return known
    raise ConfigError(
        f"task {task!r}: history = {history!r} does not exist; allowed: 'last' (only the present "
        "board is shown) or 'full' (earlier turns are repeated). Type history = \"last\""
    )


class GameTask(Task):
    """What games share: fixed boards, and TextArena's verdict.

    ``history`` says what a turn reads: ``last`` the present board alone, ``full`` also the earlier
    turns. A subclass gives examples, their `Play`, how an action is read, floors and the best
    possible score.
    """

    def __init__(self, history: str = "last") -> None:
        self.history = checked_history(self.name, history)

    def options(self) -> Mapping[str, Any]:
        """What a turn reads."""
        return {"history": self.history}

    def open(self, example: Example, seed: int) -> Episode:
        """A fresh game; nothing in it is left to chance, so ``seed`` changes nothing."""
        return GameEpisode(self.play_of(example), self.action_of, self.max_turns, self.history)

    @abstractmethod
    def play_of(self, example: Example) -> Play:
        """The example's game, ready to be played."""

    @abstractmethod
    def action_of(self, reply: str) -> str | None:
        """The last allowed action in a reply without its thinking; None where there is none."""


class WorldGameTask(GameTask):
    """A game of the built-in world: what its marks mean and its controls do is told or not.

    A subclass sets ``world``.
    """

    world: World
    leak_patterns = (r"\brules?\b",)

    def context(self) -> Context:
        """The meaning of every mark and control."""
        return Context(told(in_fixed_order(self.world)))

    def action_of(self, reply: str) -> str | None:
        """The letter of the last allowed control."""
        return action_of(reply, self.world.controls.values())


@dataclass(frozen=True)
class Played:
    """One action's consequences: TextArena's verdict and what the player is told of it."""

    verdict: Verdict
    happening: Happening
    how_lost: str = ""
    """What to say in the grade where this action lost the game otherwise than by invalid moves."""


class Play(ABC):
    """A game in play, as the episode needs it."""

    @abstractmethod
    def observe(self) -> Message:
        """The plain user message for the position as it stands."""

    @abstractmethod
    def play(self, action: str | None) -> Played:
        """Take an action as it was read; None is a reply without one."""


class GameEpisode(Episode):
    """An attempt at one board: an action a reply, up to ``max_turns`` replies.

    The last allowed action string in a reply counts, and none in its thinking. TextArena judges:
    one invalid action is tolerated, a second one in a row loses. The grade is 1.0 for a win and 0.0
    for a loss, and None where the game was lost because the last reply held no action that could
    be read.
    """

    def __init__(
        self,
        play: Play,
        read: Callable[[str], str | None],
        max_turns: int,
        history: History,
    ) -> None:
        self._play, self._read = play, read
        self._max_turns, self._history = max_turns, history
        self._actions: list[str | None] = []
        self._happenings: list[Happening] = []
        self._ending = ""
        self._grade: Grade | None = None
        self.messages: tuple[Message, ...] = (play.observe(),)

    def step(self, reply: str) -> Turn:
        """Play the reply's action; raises RuntimeError when the game is over, Unreadable."""
        if self._grade is not None:
            raise RuntimeError("this episode is over; open the example again for another attempt")
        try:
            action = self._read(without_thinking(reply))
        except Exception as error:  # a task's own code, on a text that a model wrote
            raise Unreadable(f"{type(error).__name__}: {error}") from error
        played = self._play.play(action)
        self._actions.append(action)
        self._happenings.append(played.happening)
        self._grade = self._graded(played)
        said: Message = {"role": "assistant", "content": reply}
        before = (*self.messages, said) if self._history == "full" else ()
        self.messages = (*before, self._play.observe())
        return Turn(self.messages, done=self._grade is not None)

    def _graded(self, played: Played) -> Grade | None:
        """The grade if the game is over, else None; also sets what the feedback ends with."""
        verdict, turn = played.verdict, len(self._actions)
        if verdict.won:
            return Grade(1.0, self._answer, f"won in {turn} turns")
        if verdict.done and verdict.refused:
            self._ending = REFUSED_TWICE
            if self._actions[-1] is None:
                return Grade(None, self._answer, f"no action could be read at turn {turn}")
            return Grade(0.0, self._answer, f"two invalid moves in a row, the last at turn {turn}")
        if verdict.done:
            return Grade(0.0, self._answer, f"{played.how_lost} at turn {turn}")
        if turn >= self._max_turns:
            self._ending = TURNS_OVER
            return Grade(0.0, self._answer, f"turn limit of {self._max_turns} reached")
        return None

    @property
    def _answer(self) -> str:
        return " ".join(f"[{action or '?'}]" for action in self._actions)

    def grade(self) -> Grade:
        """The grade; an unfinished game is lost."""
        if self._grade is not None:
            return self._grade
        return Grade(0.0, self._answer or None, f"unfinished after {len(self._actions)} turns")

    def feedback(self) -> str:
        """A line for each turn, and how it ended, in the words that reflections are trained on."""
        lines = [happening.words for happening in self._happenings]
        return "\n".join([*lines, self._ending] if self._ending else lines)


def in_fixed_order(world: World) -> list[str]:
    """The sentences of a world for its task's context: controls first, then marks."""
    order: Mapping[str, int] = {way: place for place, way in enumerate(world.controls)}
    return sorted(
        world.sentences(), key=lambda sentence: order.get(sentence.split()[0], len(order))
    )
