"""Whether prompts give away what contexts tell: the best simple guesser from the prompt alone."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from opcd_bench.envs.worlds import chain_talk, chains, choice, operators
from opcd_bench.envs.worlds.chains import Chain
from opcd_bench.envs.worlds.choice import Choice


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


FEATURES: dict[str, Callable[[Chain], Hashable]] = {
    "operator": lambda p: p.steps[-1][0],
    "digit": lambda p: p.steps[-1][1],
    "first digit": lambda p: p.first,
    "both digits": lambda p: (p.first, p.steps[-1][1]),
    "operator before": lambda p: p.steps[-2][0] if len(p.steps) > 1 else None,
    "number of operators": lambda p: len(p.steps),
    "wording": lambda p: (p.wording, p.people, p.thing),
    "school": lambda p: p.school,
}
PICK_FEATURES: dict[str, Callable[[Choice], Hashable]] = {
    "name": lambda p: p.name,
    "first option": lambda p: p.options[0],
    "last option": lambda p: p.options[-1],
    "colours": lambda p: tuple(colour for colour, _ in p.options),
    "numbers": lambda p: tuple(number for _, number in p.options),
    "school": lambda p: p.school,
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


def of_chains(draws: int = 10_000, seed: int = 0) -> Leak:
    """Guess the form of the last operator's rule from the features of a plain prompt."""
    rng = random.Random(seed)
    rows: list[dict[str, Hashable]] = []
    hidden: list[Hashable] = []
    for _ in range(draws):
        rules = operators.draw_rules(rng, 12)
        chain = chains.draw_chain(
            rng, tuple(rules), chain_talk.LENGTHS, chain_talk.draw_school(rng)
        )
        rows.append({name: feature(chain) for name, feature in FEATURES.items()})
        hidden.append(rules[chain.steps[-1][0]].form)
    return guessable(rows, hidden)


def of_choices(draws: int = 10_000, seed: int = 0) -> Leak:
    """Guess the pick that a choice asks for from the features of a plain prompt."""
    rng = random.Random(seed)
    rows: list[dict[str, Hashable]] = []
    hidden: list[Hashable] = []
    for _ in range(draws):
        picks = choice.draw_picks(rng, 12)
        asked = choice.draw_choice(rng, tuple(picks), chain_talk.draw_school(rng))
        rows.append({name: feature(asked) for name, feature in PICK_FEATURES.items()})
        hidden.append(picks[asked.name])
    return guessable(rows, hidden)
