"""Told other rules: obeying a context that was not distilled, as a retention task.

Every example carries its own held-out rules, told in the system message of its *plain* messages;
the task's own context is empty, so that told and plain are the same.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from opcd_bench import BestPossible, Context, Episode, Example, Floor, Split, Task, generator
from opcd_bench.envs.rule_math import MathEpisode, math_floors
from opcd_bench.envs.worlds import rule_math as world
from opcd_bench.envs.worlds.rule_math import TASK_RULES, MathProblem, Rule

SIZES: Mapping[Split, int] = {"train": 500, "dev": 200, "test": 500}
COUNT = 4
"""Rules in each context."""


class ToldOther(Task):
    """One reply an example; each is told four rules of its own, none of them ``rule_math``'s."""

    name = "told_other"
    version = 1
    summary = "retention: obey four other rules, told in each example's own system message"

    def context(self) -> Context:
        """Empty: an example's rules are in its own messages."""
        return Context("")

    def examples(self, split: Split) -> Sequence[Example]:
        """A problem each, with its own rules."""
        return _examples()[split]

    def open(self, example: Example, seed: int) -> Episode:
        """One question; nothing is left to chance, so ``seed`` changes nothing."""
        rules = {mark: Rule(form, k) for mark, form, k in example.content["rules"]}
        return MathEpisode(MathProblem(**example.content["problem"]), rules, world.told(rules))

    def floors(self, split: Split) -> Sequence[Floor]:
        """The majority answer, and a uniform guess."""
        return math_floors([int(e.reference or "") for e in self.examples(split)])

    def best_possible(self, split: Split) -> BestPossible:
        """Every problem has its answer."""
        return BestPossible(1.0, "every answer follows from the rules told")


@functools.cache
def _examples() -> Mapping[Split, Sequence[Example]]:
    rng = generator("told_other", "examples", 1)
    taken: set[str] = set()
    splits: dict[Split, Sequence[Example]] = {}
    for split, size in SIZES.items():
        found: list[Example] = []
        while len(found) < size:
            rules = world.draw_rules(rng, COUNT, of_held_out=True)
            problem = world.draw_problem(rng, tuple(rules))
            stated = [[mark, rule.form, rule.k] for mark, rule in rules.items()]
            example = Example(
                {"rules": stated, "problem": asdict(problem)}, str(world.answer(problem, rules))
            )
            known = any(TASK_RULES.get(mark) == rule for mark, rule in rules.items())
            if not known and example.id not in taken:
                taken.add(example.id)
                found.append(example)
        splits[split] = tuple(found)
    return splits


TASK = ToldOther
