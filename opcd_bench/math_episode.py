"""One problem over made-up operators as an episode: one reply, graded by its last ``Answer: N``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from opcd_bench.micro.world import rule_math as world
from opcd_bench.micro.world.rule_math import Problem, Rules
from opcd_bench.task import Episode, Floor, Grade, Message, Turn


class MathEpisode(Episode):
    """One problem and one reply; ``system`` is what the plain messages themselves tell, if any."""

    def __init__(self, problem: Problem, rules: Rules, system: str = "") -> None:
        self._problem, self._rules = problem, rules
        told: list[Message] = [{"role": "system", "content": system}] if system else []
        self.messages: Sequence[Message] = (
            *told,
            {"role": "user", "content": world.prompt(problem)},
        )
        self._reply: str | None = None

    def step(self, reply: str) -> Turn:
        """Take the only reply."""
        self._reply = reply
        return Turn(tuple(self.messages), done=True)

    def grade(self) -> Grade:
        """1 where the last ``Answer: N`` is right, None where there is none."""
        if self._reply is None:
            return Grade(0.0, None, "no reply was given")
        read = world.read_answer(self._reply)
        if read is None:
            return Grade(None, None, "the reply has no 'Answer: N'")
        right = world.answer(self._problem, self._rules)
        if read == right:
            return Grade(1.0, str(read), f"{self._problem.expression} is {right}")
        return Grade(0.0, str(read), f"{self._problem.expression} is {right}, not {read}")

    def feedback(self) -> str:
        """How each operator's use is worked out, without the results."""
        return world.feedback(self._problem, self._rules)


def math_floors(answers: Sequence[int]) -> tuple[Floor, Floor]:
    """What the best constant and a uniform guess over the range of ``answers`` score on them."""
    number, count = min(Counter(answers).items(), key=lambda item: (-item[1], item[0]))
    low, high = min(answers), max(answers)
    return (
        Floor("majority answer", count / len(answers), f"always {number}, the most frequent here"),
        Floor("uniform random", 1 / (high - low + 1), f"uniform over {low} to {high}"),
    )
