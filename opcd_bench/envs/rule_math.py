"""One chain of made-up operators as an episode: one reply, graded by its last ``Answer: N``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from opcd_bench.envs.question import QuestionEpisode, majority_floor
from opcd_bench.envs.task import Floor, Grade, Message
from opcd_bench.envs.worlds import chains as world
from opcd_bench.envs.worlds.chains import Chain
from opcd_bench.envs.worlds.operators import Rules


class MathEpisode(QuestionEpisode):
    """One problem and one reply; ``system`` is what the plain messages themselves tell, if any."""

    def __init__(self, chain: Chain, rules: Rules, system: str = "") -> None:
        self._chain, self._rules = chain, rules
        told: list[Message] = [{"role": "system", "content": system}] if system else []
        super().__init__([*told, {"role": "user", "content": world.prompt(chain)}])

    def graded(self, reply: str) -> Grade:
        """1 where the last ``Answer: N`` is right, None where there is none."""
        read = world.read_answer(reply)
        if read is None:
            return Grade(None, None, "the reply has no 'Answer: N'")
        right = world.answer(self._chain, self._rules)
        if read == right:
            return Grade(1.0, str(read), f"{self._chain.expression} is {right}")
        return Grade(0.0, str(read), f"{self._chain.expression} is {right}, not {read}")

    def feedback(self) -> str:
        """How each operator's use is worked out, without the results."""
        return world.feedback(self._chain, self._rules)


def content_of(chain: Chain) -> dict[str, Any]:
    """A chain as an example's content: JSON values, which `chains.chain_of` reads back."""
    steps = [list(step) for step in chain.steps]
    return {**asdict(chain), "steps": steps, "people": list(chain.people)}


def math_floors(answers: Sequence[int]) -> tuple[Floor, Floor]:
    """What the best constant and a uniform guess over the range of ``answers`` score on them."""
    low, high = min(answers), max(answers)
    return (
        majority_floor(answers),
        Floor("uniform random", 1 / (high - low + 1), f"uniform over {low} to {high}"),
    )
