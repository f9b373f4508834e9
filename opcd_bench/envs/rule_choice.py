"""One choice among five numbers as an episode: one reply, graded by the number that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from opcd_bench.envs.question import QuestionEpisode, majority_floor
from opcd_bench.envs.task import Floor, Grade
from opcd_bench.envs.worlds import choice as world
from opcd_bench.envs.worlds.choice import NUMBERS, Choice

_NUMBER = re.compile(r"\d+")


class ChoiceEpisode(QuestionEpisode):
    """One question and one reply."""

    def __init__(self, choice: Choice, picks: Mapping[str, str]) -> None:
        self._choice, self._picks = choice, picks
        super().__init__([{"role": "user", "content": world.prompt(choice)}])

    def graded(self, reply: str) -> Grade:
        """1 where the reply names the right number and no other, None where it names none."""
        named = sorted(set(_NUMBER.findall(reply)))
        if not named:
            return Grade(None, None, f"the reply names none of {', '.join(NUMBERS)}")
        right = self._picks[self._choice.name]
        why = f"{self._choice.name} is {right}"
        return Grade(float(named == [right]), " ".join(named), why)

    def feedback(self) -> str:
        """Whether the number named is right; the rule is the answer, so it is not said."""
        right = self.grade().score == 1.0
        return f"That is {'' if right else 'not '}the number of {self._choice.name}."


def choice_floors(answers: Sequence[str]) -> tuple[Floor, Floor]:
    """What the most frequent number and a uniform guess score on right replies."""
    return (
        majority_floor([answer.split()[-1] for answer in answers]),
        Floor("uniform random", 1 / len(NUMBERS), f"one of {len(NUMBERS)} numbers"),
    )
