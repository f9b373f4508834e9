"""Problems that chain made-up operators: their words, their working, their answer, the feedback.

``7 dax 3 kel 5`` is worked from the left; between two operators only the last digit is kept, so
that every operand is a digit whatever the rules are and a prompt tells nothing about them. Replies
state the rule, substitute, and go on by steps that are each one table lookup.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opcd_bench.envs.worlds.operators import Rules, in_school, rule_line

PEOPLE = ("Ann", "Ben", "Tom", "Mia", "Sam", "Eva", "Leo", "Zoe")
THINGS = ("cards", "coins", "apples", "books", "pens", "stones")
BARE = ("What is {} ?", "Work out {} .", "Find {} .")
ORDER = " Go from the left . Between steps keep the last digit ."
STYLES = ("A", "B", "C", "D")
"""The wordings of a working; a context may ask for one (`style_line`)."""


@dataclass(frozen=True)
class Chain:
    """One item without its rules: ``first``, then each ``(name, digit)`` from the left.

    ``people`` (one more than steps) and ``thing`` make it a word problem; without people it is an
    expression in the ``wording``-th of `BARE`. ``school`` is named in the prompt, if any.
    """

    first: int
    steps: tuple[tuple[str, int], ...]
    wording: int = 0
    people: tuple[str, ...] = ()
    thing: str = ""
    school: str | None = None

    @property
    def expression(self) -> str:
        """The problem as an expression."""
        return " ".join([str(self.first), *(f"{name} {digit}" for name, digit in self.steps)])


def chain_of(content: Mapping[str, Any]) -> Chain:
    """The chain that ``dataclasses.asdict`` took apart, lists for tuples or not."""
    steps = tuple((str(name), int(digit)) for name, digit in content["steps"])
    return Chain(**{**content, "steps": steps, "people": tuple(content["people"])})


def prompt(chain: Chain) -> str:
    """The plain prompt: it names operators and digits and nothing of what they mean."""
    order = ORDER if len(chain.steps) > 1 else ""
    if not chain.people:
        return in_school(chain.school, BARE[chain.wording].format(chain.expression) + order)
    one, *others = chain.people
    parts = [f"{one} has {chain.first} {chain.thing} ."]
    for (name, digit), other in zip(chain.steps, others, strict=True):
        parts.append(f"They {name} the {digit} of {other} .")
    return in_school(chain.school, f"{' '.join(parts)} How many {chain.thing} ?{order}")


def draw_chain(
    rng: random.Random, names: Sequence[str], lengths: Sequence[int], school: str | None = None
) -> Chain:
    """A chain over ``names``; its digits are uniform and know nothing of any rule."""
    count = rng.choice(lengths)
    steps = tuple((rng.choice(names), rng.randint(1, 9)) for _ in range(count))
    first, wording = rng.randint(1, 9), rng.randrange(len(BARE))
    if rng.random() < 0.7:
        return Chain(first, steps, wording, school=school)
    people = tuple(rng.sample(PEOPLE, count + 1))
    return Chain(first, steps, 0, people, rng.choice(THINGS), school)


def uses(chain: Chain, rules: Rules) -> list[tuple[str, int, int, int]]:
    """Every use of an operator in the order of working: ``(name, a, b, result)``."""
    found, a = [], chain.first
    for name, b in chain.steps:
        result = rules[name].value(a, b)
        found.append((name, a, b, result))
        a = result % 10
    return found


def answer(chain: Chain, rules: Rules) -> int:
    """The right answer under ``rules``."""
    return uses(chain, rules)[-1][3]


def in_line(name: str, a: int, b: int, rules: Rules, swap: bool = False) -> str:
    """A use in one line: the statement of its rule, and its steps."""
    steps, _ = rules[name].steps(a, b, swap)
    return f"{a} {name} {b} : {rule_line(name, rules[name].text)} : {' : '.join(steps)}"


def blocks(chain: Chain, rules: Rules, rng: random.Random, style: str) -> list[list[str]]:
    """The lines of a working, a block for each use; the last block ends with ``Answer: N``."""
    found: list[list[str]] = []
    every = uses(chain, rules)
    for number, (name, a, b, result) in enumerate(every):
        rule, swap = rules[name], rng.random() < 0.3
        steps, _ = rule.steps(a, b, swap)
        statement, operands = rule_line(name, rule.text), f"a = {a} and b = {b}"
        lines = {
            "A": [statement, operands, *steps],
            "B": [f"{operands} for {name}", statement, *steps],
            "C": [statement, f"{a} {name} {b} = {rule.on(a, b)}", *steps],
            "D": [in_line(name, a, b, rules, swap)],
        }[style]
        is_last = number + 1 == len(every)
        found.append([*lines, f"Answer: {result}" if is_last else f"{result} keeps {result % 10}"])
    return found


def worked(chain: Chain, rules: Rules, rng: random.Random, style: str | None = None) -> str:
    """One of the right ways to write the working, chosen by ``rng``; ends with ``Answer: N``."""
    of = blocks(chain, rules, rng, style or rng.choice(STYLES))
    return "\n".join(line for lines in of for line in lines)


_ANSWER = re.compile(r"Answer[*_]{0,2}[:：][\s*_]*((?:[-−]|(?<!\n)[-−] )?)(\d+)\b(?![.,]\d)")
_MOST_DIGITS = 300


def read_answer(reply: str) -> int | None:
    """The number of the last ``Answer: N`` of a reply; None where there is none to be read."""
    found = _ANSWER.findall(reply)
    if not found or len(found[-1][1]) > _MOST_DIGITS:
        return None
    sign, digits = found[-1]
    return -int(digits) if sign else int(digits)


def feedback(chain: Chain, rules: Rules) -> str:
    """What the environment says after an attempt: how each use is worked, never the answer."""
    return "\n".join(
        f"{a} {name} {b} is worked as {rules[name].on(a, b)}"
        for name, a, b, _ in uses(chain, rules)
    )
