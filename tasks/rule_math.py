"""Rule math: word problems and expressions over four made-up operators that the context explains.

The rule set is the task's own: none of its assignments of a rule to a mark occurs in the built-in
model's pre-training. Splits are disjoint by expression, whatever words it comes in.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from opcd_bench import (
    BestPossible,
    Context,
    Episode,
    Example,
    Floor,
    Split,
    Task,
    generator,
    seed_of,
)
from opcd_bench.envs.rule_math import MathEpisode, math_floors
from opcd_bench.envs.worlds import rule_math as world
from opcd_bench.envs.worlds.rule_math import TASK_RULES, MathProblem

SIZES: Mapping[Split, int] = {"train": 2000, "dev": 300, "test": 500}
SHARE_OF_TWO = 0.5
"""Share of the problems with two operators."""


class RuleMath(Task):
    """One reply an example; graded by the number of its last ``Answer: N``."""

    name = "rule_math"
    version = 1
    summary = "word problems and expressions over four made-up operators; the context explains them"

    def context(self) -> Context:
        """The four rules, in the system message."""
        return Context(world.told(TASK_RULES))

    def examples(self, split: Split) -> Sequence[Example]:
        """Problems with uniform digits, about half of them with two operators."""
        return _examples()[split]

    def open(self, example: Example, seed: int) -> Episode:
        """One question; nothing is left to chance, so ``seed`` changes nothing."""
        return MathEpisode(MathProblem(**example.content), TASK_RULES)

    def floors(self, split: Split) -> Sequence[Floor]:
        """The majority answer, and a uniform guess."""
        return math_floors([int(e.reference or "") for e in self.examples(split)])

    def best_possible(self, split: Split) -> BestPossible:
        """Every problem has its answer."""
        return BestPossible(1.0, "every answer follows from the rules")


def _split_of(problem: MathProblem) -> Split:
    """By the expression alone: six in ten to train, one in ten to dev, three in ten to test."""
    bucket = seed_of("rule_math", "split", problem.expression) % 10
    return "train" if bucket < 6 else "dev" if bucket < 7 else "test"


@functools.cache
def _examples() -> Mapping[Split, Sequence[Example]]:
    rng = generator("rule_math", "examples", 1)
    splits: dict[Split, dict[str, Example]] = {"train": {}, "dev": {}, "test": {}}
    while any(len(splits[split]) < SIZES[split] for split in splits):
        problem = world.draw_problem(rng, tuple(TASK_RULES), two=SHARE_OF_TWO)
        found = splits[_split_of(problem)]
        if len(found) < SIZES[_split_of(problem)]:
            example = Example(asdict(problem), str(world.answer(problem, TASK_RULES)))
            found.setdefault(example.id, example)
    return {split: tuple(found.values()) for split, found in splits.items()}


TASK = RuleMath
