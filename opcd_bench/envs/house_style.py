"""House styles as tasks: everyday questions, answered by a rule that IFEval's own checkers grade.

What is measured is obedience to the rule, and not what is answered: a fixed sentence that follows
it scores 1. A variant is a subclass with another name and another ``rule``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opcd_bench.envs import ifeval
from opcd_bench.envs.question import QuestionEpisode
from opcd_bench.envs.task import (
    SPLITS,
    BestPossible,
    Context,
    Episode,
    Example,
    Floor,
    Grade,
    Probe,
    Split,
    Task,
)
from opcd_bench.envs.worlds import everyday
from opcd_bench.seeds import seed_of

FEWEST_WORDS = 3
"""A shorter response answers no question; it follows no rule either."""
CONSTANT = "I am not sure, but it depends on what you have at home."
"""What a policy that does not use the context says: a fixed sentence in plain English."""


@dataclass(frozen=True)
class Rule:
    """A rule for every response: how it is told, and IFEval's check of it (id and arguments)."""

    told: str
    check: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def followed(self, reply: str) -> bool:
        """Whether IFEval's checker takes a reply as one that follows the rule, strictly.

        Replies in which no language can be told apart follow no rule that asks for one.
        """
        return ifeval.followed(self.check, self.arguments, reply)


def speaks(language: str, code: str) -> Rule:
    """Answers in a language, by its name and its code in ISO 639-1."""
    told = f"You always answer in {language}, whatever language you are asked in."
    return Rule(told, "language:response_language", {"language": code})


class HouseStyle(Task):
    """One reply a question; right if it follows the rule of the house."""

    rule: Rule = speaks("Spanish", "es")
    other: Rule = speaks("French", "fr")
    """The rule that is told in its place, to see whether the student can still be steered."""
    leak_patterns = (
        r"\b(?:told|asked|instructed) to (?:always )?(?:answer|speak|reply|respond|write)\b",
        r"\balways answer in\b",
    )

    def context(self) -> Context:
        """The rule, in the system message."""
        return Context(self.rule.told)

    def examples(self, split: Split) -> Sequence[Example]:
        """Questions about things that no other split asks about, in the order of a hash."""
        return _examples()[split]

    def open(self, example: Example, seed: int) -> Episode:
        """One question; nothing is left to chance, so ``seed`` changes nothing."""
        other = example.content.get("rule") == "other"
        return StyleEpisode(str(example.content["question"]), self.other if other else self.rule)

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        """What a fixed sentence in plain English scores."""
        return (_constant(self.rule),)

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        """The rule can be followed whatever is asked."""
        return BestPossible(1.0, "every question can be answered by the rule")

    def probes(self) -> Sequence[Probe]:
        """Told the rule again, and told another in its place."""
        test = self.examples("test")
        other = tuple(Example({**one.content, "rule": "other"}) for one in test)
        return (
            Probe("told_again", "the test questions, with the rule", test,
                  (_constant(self.rule),), "context"),
            Probe("contradicted", "the test questions, with another rule; right if it is followed",
                  other, (_constant(self.other),), Context(self.other.told)),
        )  # fmt: skip


class StyleEpisode(QuestionEpisode):
    """A question, and the rule that its answer shall follow."""

    def __init__(self, question: str, rule: Rule) -> None:
        super().__init__([{"role": "user", "content": everyday.prompt(question)}])
        self._rule = rule

    def graded(self, reply: str) -> Grade:
        """1 where the checker finds the rule followed, None for what is no answer at all."""
        if len(reply.split()) < FEWEST_WORDS:
            return Grade(None, None, f"fewer than {FEWEST_WORDS} words")
        followed = self._rule.followed(reply)
        what = "followed" if followed else "not followed"
        return Grade(float(followed), what, f"{self._rule.check}: {what}")


def _constant(rule: Rule) -> Floor:
    score = float(rule.followed(CONSTANT))
    return Floor("fixed sentence", score, f"always {CONSTANT!r}, graded")


@functools.cache
def _examples() -> Mapping[Split, Sequence[Example]]:
    found = {split: [Example({"question": q}) for q in everyday.questions(split)]
             for split in SPLITS}  # fmt: skip
    return {
        split: tuple(sorted(of, key=lambda one: seed_of("house_style", "order", one.id)))
        for split, of in found.items()
    }
