"""Made-up operators: their names, the rules that a context tells, and how a use is worked.

A name such as ``dax`` stands between two digits; a context line says what it means, as
``#dax 3 * a + b``. A name right behind ``#`` (no space before it) occurs only where a rule is
stated, so that finding a rule is looking up what followed one token.

Held out: the assignments ``(name, rule)`` for which `held_out` is true are never drawn in
pre-training; the tasks draw theirs from these alone.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from opcd_bench.envs.worlds.reflection import ITEM

NAMES = tuple(
    "bav bel dax dup fep fim gaz gop hix jat jun kel kiv lom luz mip mab nex nuk paz pof quo riv "
    "rud sef siv tev tuk vam vop wex wib yal yof zet zim".split()
)
"""The operators; each is one token, with a space before it and without."""

SCHOOLS = tuple("Orr Ull Ako Bru Cei Dov Eka Fyr Gol Hun Ivo Jor Kaz Lyn Mur Ner".split())
"""Whose rules a context states, where it says so; a prompt may name the school."""


def _sum(x: int, y: int, swap: bool) -> tuple[str, int]:
    return (f"{y} + {x} = {x + y}" if swap else f"{x} + {y} = {x + y}"), x + y


def _times(k: int, x: int) -> tuple[str, int]:
    return f"{k} * {x} = {k * x}", k * x


Steps = tuple[list[str], int]
"""Elementary steps as text, and the result."""


def _left(a: int, b: int, k: int, swap: bool) -> Steps:
    first, value = _times(k, a)
    second, result = _sum(value, b, swap)
    return [first, second], result


def _right(a: int, b: int, k: int, swap: bool) -> Steps:
    first, value = _times(k, b)
    second, result = _sum(a, value, swap)
    return [first, second], result


def _minus(a: int, b: int, k: int, swap: bool) -> Steps:
    first, value = _sum(k, a, swap)
    return [first, f"{value} - {b} = {value - b}"], value - b


def _then(
    part: Callable[[int, int, bool], tuple[str, int]], plus: bool
) -> Callable[[int, int, int, bool], Steps]:
    """``part`` of the operands, then ``k`` added to it or times it."""

    def steps(a: int, b: int, k: int, swap: bool) -> Steps:
        first, value = part(a, b, swap)
        second, result = _sum(k, value, False) if plus else _times(k, value)
        return [first, second], result

    return steps


def _gap(a: int, b: int, swap: bool) -> tuple[str, int]:
    x, y = (b, a) if swap else (a, b)
    return f"| {x} - {y} | = {abs(a - b)}", abs(a - b)


def _larger(a: int, b: int, swap: bool) -> tuple[str, int]:
    x, y = (b, a) if swap else (a, b)
    return f"larger of {x} and {y} = {max(a, b)}", max(a, b)


def _smaller(a: int, b: int, swap: bool) -> tuple[str, int]:
    x, y = (b, a) if swap else (a, b)
    return f"smaller of {x} and {y} = {min(a, b)}", min(a, b)


@dataclass(frozen=True)
class Form:
    """A family of rules: its wording with ``{k}``, the constants allowed, and how it is worked.

    ``steps(a, b, k, swap)`` works a use; ``swap`` turns commutative steps around (another right
    way to write the same working).
    """

    text: str
    constants: tuple[int, ...]
    steps: Callable[[int, int, int, bool], Steps]


_DIGITS = tuple(range(1, 10))
_FACTORS = (2, 3, 4, 5)

FORMS: Mapping[str, Form] = {
    "sum": Form("{k} + a + b", _DIGITS, _then(_sum, True)),
    "left": Form("{k} * a + b", (2, 3), _left),
    "right": Form("a + {k} * b", (2, 3), _right),
    "sum_times": Form("{k} * ( a + b )", (2, 3), _then(_sum, False)),
    "minus": Form("{k} + a - b", (10, 20, 30), _minus),
    "gap": Form("{k} + | a - b |", _DIGITS, _then(_gap, True)),
    "gap_times": Form("{k} * | a - b |", _FACTORS, _then(_gap, False)),
    "larger": Form("{k} + larger of a and b", _DIGITS, _then(_larger, True)),
    "larger_times": Form("{k} * larger of a and b", _FACTORS, _then(_larger, False)),
    "smaller": Form("{k} + smaller of a and b", _DIGITS, _then(_smaller, True)),
    "smaller_times": Form("{k} * smaller of a and b", _FACTORS, _then(_smaller, False)),
}


@dataclass(frozen=True)
class Rule:
    """What an operator means: a form with its constant."""

    form: str
    k: int

    @property
    def text(self) -> str:
        """The right-hand side as a context words it."""
        return FORMS[self.form].text.format(k=self.k)

    def on(self, a: int, b: int) -> str:
        """The right-hand side with digits for ``a`` and ``b`` (how a use is worked)."""
        return re.sub(r"\b[ab]\b", lambda m: str(a if m.group() == "a" else b), self.text)

    def steps(self, a: int, b: int, swap: bool = False) -> Steps:
        """The worked steps and the result for operands 0 to 9."""
        return FORMS[self.form].steps(a, b, self.k, swap)

    def value(self, a: int, b: int) -> int:
        """The result alone."""
        return self.steps(a, b)[1]


Rules = Mapping[str, Rule]
"""A rule set: name -> rule."""


def held_out(name: str, rule: Rule) -> bool:
    """Whether pre-training never assigns ``rule`` to ``name`` (about one assignment in six)."""
    return hashlib.sha256(f"{name}|{rule.form}|{rule.k}".encode()).digest()[0] % 6 == 0


def draw_rule(rng: random.Random, name: str, *, of_held_out: bool = False) -> Rule:
    """A rule for ``name``: forms are drawn before constants, so that all are alike common."""
    while True:
        form = rng.choice(tuple(FORMS))
        rule = Rule(form, rng.choice(FORMS[form].constants))
        if held_out(name, rule) == of_held_out:
            return rule


def draw_rules(rng: random.Random, count: int, *, of_held_out: bool = False) -> dict[str, Rule]:
    """A rule set of ``count`` names, from the held-out assignments alone or the others alone."""
    return {
        name: draw_rule(rng, name, of_held_out=of_held_out) for name in rng.sample(NAMES, count)
    }


TASK_RULES: Rules = {
    "jat": Rule("left", 3),
    "bav": Rule("right", 3),
    "luz": Rule("sum", 6),
    "riv": Rule("minus", 10),
    "gaz": Rule("smaller_times", 4),
    "wex": Rule("gap", 3),
    "dax": Rule("larger_times", 5),
    "fim": Rule("larger", 2),
    "lom": Rule("gap_times", 2),
    "tev": Rule("sum_times", 2),
    "dup": Rule("smaller", 3),
    "paz": Rule("sum", 2),
}
"""What the task ``rule_math`` tells; each assignment is held out."""


def rule_line(name: str, text: str) -> str:
    """A rule as contexts, replies and lessons state it."""
    return f"#{name} {text}"


def rule_lines(rules: Rules) -> list[str]:
    """Every rule's line."""
    return [rule_line(name, rule.text) for name, rule in rules.items()]


def told(lines: Sequence[str], school: str | None = None) -> str:
    """The context that states ``lines`` in their order, as the rules of a school or of nobody."""
    return "\n".join(["Rules" if school is None else f"Rules of the school of {school}", *lines])


def as_items(rng: random.Random, lines: Sequence[str]) -> str:
    """A context as experience leaves it: lessons in any order, some of them more than once."""
    every = [*lines, *rng.choices(lines, k=rng.choice((0, 0, 1, 2)))]
    rng.shuffle(every)
    return "\n".join(f"{ITEM} {line}" for line in every)


def in_school(school: str | None, prompt: str) -> str:
    """A prompt that names the school whose rules apply."""
    return prompt if school is None else f"In the school of {school} : {prompt}"
