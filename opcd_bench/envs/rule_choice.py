"""One choice among five colours as an episode: one reply, graded by the colour that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from opcd_bench.envs.question import QuestionEpisode, majority_floor
from opcd_bench.envs.task import Floor, Grade
from opcd_bench.envs.worlds import choice as world
from opcd_bench.envs.worlds.choice import COLOURS, Choice

_COLOUR = re.compile(rf"\b({'|'.join(COLOURS)})\b")


class ChoiceEpisode(QuestionEpisode):
    """One question and one reply."""

    def __init__(self, choice: Choice, picks: Mapping[str, str]) -> None:
        self._choice, self._picks = choice, picks
        super().__init__([{"role": "user", "content": world.prompt(choice)}])

    def graded(self, reply: str) -> Grade:
        """1 where the reply names the right colour and no other, None where it names none."""
        named = sorted(set(_COLOUR.findall(reply.lower())))
        if not named:
            return Grade(None, None, f"the reply names none of {', '.join(COLOURS)}")
        right = world.answer(self._choice, self._picks)
        why = f"{self._choice.name} picks {right}"
        return Grade(float(named == [right]), " ".join(named), why)

    def feedback(self) -> str:
        """The rule that was asked for, without the colour."""
        return f"{self._choice.name} is {self._picks[self._choice.name]}"


def choice_floors(answers: Sequence[str]) -> tuple[Floor, Floor]:
    """What the most frequent colour and a uniform guess score on ``answers``."""
    return (
        majority_floor(answers),
        Floor("uniform random", 1 / len(COLOURS), f"one of {len(COLOURS)} colours"),
    )
