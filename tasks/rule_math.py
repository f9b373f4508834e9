"""Rule math: problems that chain made-up operators, which the context explains.

The twelve rules are the task's own: none of its assignments of a rule to a name occurs in the
built-in model's pre-training. Splits are disjoint by expression, whatever words it comes in. A hint
is the problem's own worked solution.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence

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
from opcd_bench.envs.rule_math import MathEpisode, content_of, math_floors
from opcd_bench.envs.worlds import chains as world
from opcd_bench.envs.worlds.chains import Chain
from opcd_bench.envs.worlds.operators import TASK_RULES, rule_lines, told

SIZES: Mapping[Split, int] = {"train": 2000, "dev": 300, "test": 500}
LENGTHS = (2, 2, 3, 3, 4, 5)
"""Operators in a problem. Pre-training has four at most, so a teacher fails at most problems of
five, and a student can do better."""


class RuleMath(Task):
    """One response an example; graded by the number of its last ``Answer: N``."""

    name = "rule_math"
    version = 2
    for_built_in = True
    leak_patterns = (r"\brules?\b",)
    summary = "problems that chain two to five made-up operators; the context explains all twelve"

    def context(self) -> Context:
        """The twelve rules, in the system message."""
        return Context(told(rule_lines(TASK_RULES)))

    def examples(self, split: Split) -> Sequence[Example]:
        """Problems with uniform digits and two to five operators, each with its worked solution."""
        return _examples()[split]

    def open(self, example: Example, seed: int) -> Episode:
        """One question; nothing is left to chance, so ``seed`` changes nothing."""
        return MathEpisode(world.chain_of(example.content), TASK_RULES)

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        """The majority answer, and a uniform guess."""
        return math_floors([int(e.reference or "") for e in examples])

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        """Every problem has its answer."""
        return BestPossible(1.0, "every answer follows from the rules")


def _split_of(chain: Chain) -> Split:
    """By the expression alone: six in ten to train, one in ten to dev, three in ten to test."""
    bucket = seed_of("rule_math", "split", chain.expression) % 10
    return "train" if bucket < 6 else "dev" if bucket < 7 else "test"


def _hint(chain: Chain) -> str:
    """The worked solution in one of its wordings, the same one always."""
    rng = random.Random(seed_of("rule_math", "hint", world.prompt(chain)))
    return world.worked(chain, TASK_RULES, rng)


@functools.cache
def _examples() -> Mapping[Split, Sequence[Example]]:
    rng = generator("rule_math", "examples", 2)
    splits: dict[Split, dict[str, Example]] = {"train": {}, "dev": {}, "test": {}}
    while any(len(splits[split]) < SIZES[split] for split in splits):
        chain = world.draw_chain(rng, tuple(TASK_RULES), LENGTHS)
        found = splits[_split_of(chain)]
        if len(found) < SIZES[_split_of(chain)]:
            right = str(world.answer(chain, TASK_RULES))
            example = Example(content_of(chain), right, _hint(chain))
            found.setdefault(example.id, example)
    return {split: tuple(found.values()) for split, found in splits.items()}


TASK = RuleMath
