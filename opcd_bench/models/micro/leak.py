"""Whether prompts give away what contexts tell: the best simple guesser from the prompt alone."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from opcd_bench.envs.worlds import rule_math


@dataclass(frozen=True)
class Leak:
    """Accuracy on unseen draws of guessing what is hidden: with the best feature, and without any.

    ``feature`` is the one whose values predict best; ``informed`` its accuracy, ``blind`` that of
    the most frequent value. Where nothing leaks, the two differ by noise alone.
    """

    feature: str
    informed: float
    blind: float
    draws: int


Feature = Callable[[rule_math.MathProblem], Hashable]

FEATURES: dict[str, Feature] = {
    "mark": lambda p: p.outer,
    "left operand": lambda p: (p.a, p.left),
    "right operand": lambda p: (p.b, p.left),
    "both operands": lambda p: (p.a, p.b),
    "gap of the operands": lambda p: abs(p.a - p.b),
    "inner mark": lambda p: p.inner,
    "wording": lambda p: (p.template, p.thing),
    "two operators": lambda p: p.inner is not None,
}


def guessable(features: Sequence[dict[str, Hashable]], hidden: Sequence[Hashable]) -> Leak:
    """Fit a table feature value -> most frequent hidden value on one half, score on the other."""
    half = len(hidden) // 2
    blind_guess = Counter(hidden[:half]).most_common(1)[0][0]
    blind = sum(value == blind_guess for value in hidden[half:]) / (len(hidden) - half)
    scores: dict[str, float] = {}
    for name in features[0]:
        table: dict[Hashable, Counter[Hashable]] = defaultdict(Counter)
        for row, value in zip(features[:half], hidden[:half], strict=True):
            table[row[name]][value] += 1
        guesses = {key: counts.most_common(1)[0][0] for key, counts in table.items()}
        right = sum(
            guesses.get(row[name], blind_guess) == value
            for row, value in zip(features[half:], hidden[half:], strict=True)
        )
        scores[name] = right / (len(hidden) - half)
    best = max(scores, key=lambda name: scores[name])
    return Leak(best, scores[best], blind, len(hidden))


def of_rule_math(draws: int = 10_000, seed: int = 0) -> Leak:
    """Guess the form of the outer operator's rule from the features of a plain prompt."""
    rng = random.Random(seed)
    rows: list[dict[str, Hashable]] = []
    hidden: list[Hashable] = []
    for _ in range(draws):
        rules = rule_math.draw_rules(rng, 4)
        problem = rule_math.draw_problem(rng, tuple(rules))
        rows.append({name: feature(problem) for name, feature in FEATURES.items()})
        hidden.append(rules[problem.outer].form)
    return guessable(rows, hidden)
