"""Rule choices over several rule sets: each question belongs to one, named in its prompt or not.

What is told depends on the example and the skill does not: where no prompt names its rule set, a
student without context can at best learn the mean over all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from opcd_bench.envs.rule_choice import ChoiceEpisode, choice_floors
from opcd_bench.envs.task import (
    BestPossible,
    Context,
    Contexts,
    Episode,
    Example,
    Floor,
    Split,
    Task,
)
from opcd_bench.envs.worlds import choice as world
from opcd_bench.envs.worlds import operators
from opcd_bench.envs.worlds.choice import TASK_PICKS, Choice
from opcd_bench.seeds import generator, seed_of

SIZES: Mapping[Split, int] = {"train": 2000, "dev": 300, "test": 500}


class RulePool(Task):
    """A question about one of twelve names, answered by the rule set that its example belongs to.

    A variant is a subclass with another number of ``rule_sets`` (the first is that of the task
    ``rule_choice``); ``named``: the prompt names the school whose rules apply, so at most as many
    as there are `SCHOOLS`. Splits are disjoint by question, whatever its rule set.
    """

    rule_sets = 2
    named = False
    leak_patterns = (r"\brules?\b",)

    def context(self) -> Context:
        """The first rule set, in the system message."""
        return _contexts(self.rule_sets, self.named)[0]

    def contexts(self) -> Contexts:
        """All rule sets: which one an example is told is drawn by its id."""
        return self.given or Contexts(
            _contexts(self.rule_sets, self.named), by_example=True, named=self.named
        )

    def examples(self, split: Split) -> Sequence[Example]:
        """Questions with colours and numbers in any order; the hint is the rule."""
        return _examples(self.name, self.rule_sets, self.named)[split]

    def open(self, example: Example, seed: int) -> Episode:
        """One question; nothing is left to chance, so ``seed`` changes nothing."""
        picks = _picks_of(self.name, self.rule_sets, self.named, example.id)
        return ChoiceEpisode(world.choice_of(example.content), picks)

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        """The majority answer, and a uniform guess."""
        return choice_floors([str(e.reference) for e in examples])

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        """Every question has its answer, for whoever knows its rule set."""
        return BestPossible(1.0, "every answer follows from the rules of its example")


class FalseRules(RulePool):
    """The rule set of ``rule_choice``, of whose twelve lines in the context ``false`` are wrong.

    A false line names another number than the one that answers are graded by.
    """

    rule_sets = 1
    false = 3

    def context(self) -> Context:
        """The rules as they are told, true or not."""
        told = told_rules(self.false)
        return Context(operators.told(world.pick_lines(told)), false_share=self.false / len(told))

    def contexts(self) -> Contexts:
        """One context for all examples."""
        return self.given or Contexts((self.context(),))


@functools.cache
def told_rules(false: int) -> Mapping[str, str]:
    """The first rule set with ``false`` wrong numbers; what is wrong with few is so with more."""
    rng, told = generator("rule_pools", "false"), dict(rules_of(0))
    for name in rng.sample(sorted(told), len(told))[:false]:
        others = [number for number in world.NUMBERS if number != told[name]]
        told[name] = others[seed_of("rule_pools", "false", name) % len(others)]
    return told


@functools.cache
def rules_of(number: int) -> Mapping[str, str]:
    """What the names of rule set ``number`` stand for: the same names in every set."""
    if number == 0:
        return TASK_PICKS
    rng = generator("rule_pools", "rules", number)
    return {name: rng.choice(world.NUMBERS) for name in TASK_PICKS}


@functools.cache
def _contexts(rule_sets: int, named: bool) -> tuple[Context, ...]:
    """The context of each rule set, in the order of their numbers."""
    return tuple(
        Context(operators.told(world.pick_lines(rules_of(number)), _school(number, named)))
        for number in range(rule_sets)
    )


def _school(number: int, named: bool) -> str | None:
    return operators.SCHOOLS[number] if named else None


def _number(task: str, rule_sets: int, named: bool, example_id: str) -> int:
    """The number of the rule set that an example is told, whatever a suite tells in its place."""
    contexts = _contexts(rule_sets, named)
    drawn = _drawn(rule_sets, named).of(task, 0, example_id)
    return contexts.index(drawn)


@functools.cache
def _drawn(rule_sets: int, named: bool) -> Contexts:
    return Contexts(_contexts(rule_sets, named), by_example=True, named=named)


def _picks_of(task: str, rule_sets: int, named: bool, example_id: str) -> Mapping[str, str]:
    return rules_of(_number(task, rule_sets, named, example_id))


def _split_of(choice: Choice) -> Split:
    """By the question without its school: six in ten to train, one to dev, three to test."""
    bucket = seed_of("rule_pools", "split", world.prompt(replace(choice, school=None))) % 10
    return "train" if bucket < 6 else "dev" if bucket < 7 else "test"


@functools.cache
def _examples(task: str, rule_sets: int, named: bool) -> Mapping[Split, Sequence[Example]]:
    rng = generator(task, "examples", 1)
    splits: dict[Split, dict[str, Example]] = {"train": {}, "dev": {}, "test": {}}
    while any(len(splits[split]) < SIZES[split] for split in splits):
        school = _school(rng.randrange(rule_sets), named)
        choice = world.draw_choice(rng, tuple(TASK_PICKS), school)
        content = {**asdict(choice), "options": [list(option) for option in choice.options]}
        number = _number(task, rule_sets, named, Example(content).id)
        if named and school != _school(number, named):
            continue  # a prompt names the school that its example's id draws
        found, picks = splits[_split_of(choice)], rules_of(number)
        if len(found) < SIZES[_split_of(choice)]:
            right = world.answer(choice, picks)
            example = Example(content, right, right)
            found.setdefault(example.id, example)
    return {split: tuple(found.values()) for split, found in splits.items()}
