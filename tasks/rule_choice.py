"""Rule choice: which of five numbers a made-up rule picks; the response is that rule.

The context tells a number for each of twelve names; pre-training of the built-in model draws no
context like it. Splits are disjoint by question. All of the response but its last
token stands in the prompt, so that what a student can know without a context is a table, and a
guess is right one time in five.
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
from opcd_bench.envs.rule_choice import ChoiceEpisode, choice_floors
from opcd_bench.envs.worlds import choice as world
from opcd_bench.envs.worlds import operators
from opcd_bench.envs.worlds.choice import TASK_PICKS, Choice

SIZES: Mapping[Split, int] = {"train": 2000, "dev": 300, "test": 500}


class RuleChoice(Task):
    """One response an example: right if it names the number picked, and no other."""

    name = "rule_choice"
    version = 1
    summary = "pick one of five numbers by a made-up rule; the context tells twelve rules"

    def context(self) -> Context:
        """The twelve numbers, in the system message."""
        return Context(operators.told(world.pick_lines(TASK_PICKS)), false_share=0.0)

    def examples(self, split: Split) -> Sequence[Example]:
        """Questions with colours and numbers in any order; the hint is the rule."""
        return _examples()[split]

    def open(self, example: Example, seed: int) -> Episode:
        """One question; nothing is left to chance, so ``seed`` changes nothing."""
        return ChoiceEpisode(world.choice_of(example.content), TASK_PICKS)

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        """The majority answer, and a uniform guess."""
        return choice_floors([str(e.reference) for e in examples])

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        """Every question has its answer."""
        return BestPossible(1.0, "every answer follows from the rules")


def _split_of(choice: Choice) -> Split:
    """By the question: six in ten to train, one in ten to dev, three in ten to test."""
    bucket = seed_of("rule_choice", "split", world.prompt(choice)) % 10
    return "train" if bucket < 6 else "dev" if bucket < 7 else "test"


@functools.cache
def _examples() -> Mapping[Split, Sequence[Example]]:
    rng = generator("rule_choice", "examples", 1)
    splits: dict[Split, dict[str, Example]] = {"train": {}, "dev": {}, "test": {}}
    while any(len(splits[split]) < SIZES[split] for split in splits):
        choice = world.draw_choice(rng, tuple(TASK_PICKS))
        found = splits[_split_of(choice)]
        if len(found) < SIZES[_split_of(choice)]:
            content = {**asdict(choice), "options": [list(option) for option in choice.options]}
            right = world.answer(choice, TASK_PICKS)
            example = Example(content, right, right)
            found.setdefault(example.id, example)
    return {split: tuple(found.values()) for split, found in splits.items()}


TASK = RuleChoice
