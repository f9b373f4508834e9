"""Told other rules: obeying a context that was not distilled, as a retention task.

Every example carries its own held-out rules, told in the system message of its *plain* messages;
the task's own context is empty, so that told and plain are the same.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from opcd_bench import BestPossible, Context, Episode, Example, Floor, Split, Task, generator
from opcd_bench.envs.rule_math import MathEpisode, content_of, math_floors
from opcd_bench.envs.worlds import chains, operators
from opcd_bench.envs.worlds.operators import TASK_RULES, Rule

SIZES: Mapping[Split, int] = {"train": 500, "dev": 200, "test": 500}
COUNT = 12
"""Rules in each context."""
LENGTHS = (2, 2, 3, 3, 4)
"""Operators in a problem."""


class ToldOther(Task):
    """One reply an example; each is told twelve rules of its own, none of them ``rule_math``'s."""

    name = "told_other"
    version = 2
    for_built_in = True
    summary = "retention: obey twelve other rules, told in each example's own system message"

    def context(self) -> Context:
        """Empty: an example's rules are in its own messages."""
        return Context("")

    def examples(self, split: Split) -> Sequence[Example]:
        """A problem each, with its own rules."""
        return _examples()[split]

    def open(self, example: Example, seed: int) -> Episode:
        """One question; nothing is left to chance, so ``seed`` changes nothing."""
        rules = {name: Rule(form, k) for name, form, k in example.content["rules"]}
        told = operators.told(operators.rule_lines(rules))
        return MathEpisode(chains.chain_of(example.content["problem"]), rules, told)

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        """The majority answer, and a uniform guess."""
        return math_floors([int(e.reference or "") for e in examples])

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        """Every problem has its answer."""
        return BestPossible(1.0, "every answer follows from the rules told")


@functools.cache
def _examples() -> Mapping[Split, Sequence[Example]]:
    rng = generator("told_other", "examples", 2)
    taken: set[str] = set()
    splits: dict[Split, Sequence[Example]] = {}
    for split, size in SIZES.items():
        found: list[Example] = []
        while len(found) < size:
            rules = operators.draw_rules(rng, COUNT, of_held_out=True)
            chain = chains.draw_chain(rng, tuple(rules), LENGTHS)
            stated = [[name, rule.form, rule.k] for name, rule in rules.items()]
            example = Example(
                {"rules": stated, "problem": content_of(chain)}, str(chains.answer(chain, rules))
            )
            known = any(TASK_RULES.get(name) == rule for name, rule in rules.items())
            if not known and example.id not in taken:
                taken.add(example.id)
                found.append(example)
        splits[split] = tuple(found)
    return splits


TASK = ToldOther
