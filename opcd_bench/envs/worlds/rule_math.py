"""Math over made-up operators: the rules are told in the context and drawn anew each time.

A mark such as ``@`` stands between two digits; a context line says what it means, as
``a@b = 2 * a + b``. Problems use one operator or two; in brackets only the last digit is kept, so
that every operand is a digit whatever the rules are and the prompt tells nothing about them.
Replies restate the rule, substitute, and go on by steps that are each one table lookup.

Held out: the assignments ``(mark, rule)`` for which ``held_out`` is true are never drawn here;
the tasks draw theirs from these alone.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from opcd_bench.envs.worlds.conversation import Conversation, Message
from opcd_bench.envs.worlds.reflection import ITEM, reflection_messages, reflection_reply

MARKS = ("#", "@", "%", "&", "$", "~", "^", "!", "?", ";", "<", ">")
"""The operators; a bare mark (no space before it) occurs only where a rule is stated."""

NAMES = ("Ann", "Ben", "Tom", "Mia", "Sam", "Eva", "Leo", "Zoe")
THINGS = ("cards", "coins", "apples", "books", "pens", "stones")


@dataclass(frozen=True)
class Form:
    """A family of rules: its wording with ``{k}``, the constants allowed, and how it is worked.

    ``steps(a, b, k, swap)`` gives the elementary steps as text and the result; ``swap`` turns
    commutative steps around (another right way to write the same working).
    """

    text: str
    constants: tuple[int, ...]
    steps: Callable[[int, int, int, bool], tuple[list[str], int]]


def _sum(x: int, y: int, swap: bool) -> tuple[str, int]:
    return (f"{y} + {x} = {x + y}" if swap else f"{x} + {y} = {x + y}"), x + y


def _product(x: int, y: int, swap: bool) -> tuple[str, int]:
    return (f"{y} * {x} = {x * y}" if swap else f"{x} * {y} = {x * y}"), x * y


def _then(first: str, value: int, k: int, plus: bool, swap: bool) -> tuple[list[str], int]:
    second, result = _sum(value, k, swap) if plus else _product(value, k, False)
    return [first, second], result


def _scale_left(a: int, b: int, k: int, swap: bool) -> tuple[list[str], int]:
    first, value = _product(k, a, False)
    return _then(first, value, b, True, swap)


def _scale_right(a: int, b: int, k: int, swap: bool) -> tuple[list[str], int]:
    first, value = _product(k, b, False)
    second, result = _sum(a, value, swap)
    return [first, second], result


def _product_plus(a: int, b: int, k: int, swap: bool) -> tuple[list[str], int]:
    first, value = _product(a, b, swap)
    return _then(first, value, k, True, False)


def _added(plus: bool) -> Callable[[int, int, int, bool], tuple[list[str], int]]:
    def steps(a: int, b: int, k: int, swap: bool) -> tuple[list[str], int]:
        first, value = _sum(a, b, swap)
        return _then(first, value, k, plus, False)

    return steps


def _gap(plus: bool) -> Callable[[int, int, int, bool], tuple[list[str], int]]:
    def steps(a: int, b: int, k: int, swap: bool) -> tuple[list[str], int]:
        first = f"| {b} - {a} | = {abs(a - b)}" if swap else f"| {a} - {b} | = {abs(a - b)}"
        return _then(first, abs(a - b), k, plus, False)

    return steps


def _extreme(name: str, plus: bool) -> Callable[[int, int, int, bool], tuple[list[str], int]]:
    pick: Callable[[int, int], int] = max if name == "larger" else min

    def steps(a: int, b: int, k: int, swap: bool) -> tuple[list[str], int]:
        x, y = (b, a) if swap else (a, b)
        return _then(f"the {name} of {x} and {y} = {pick(a, b)}", pick(a, b), k, plus, False)

    return steps


def _double(a: int, b: int, k: int, swap: bool) -> tuple[list[str], int]:
    first, value = _sum(a, b, swap)
    return [first, f"2 * {value} = {2 * value}"], 2 * value


def _minus(a: int, b: int, k: int, swap: bool) -> tuple[list[str], int]:
    first, value = _sum(a, k, swap)
    return [first, f"{value} - {b} = {value - b}"], value - b


_DIGITS = tuple(range(1, 10))

FORMS: Mapping[str, Form] = {
    "scale_left": Form("{k} * a + b", (2, 3, 4, 5), _scale_left),
    "scale_right": Form("a + {k} * b", (2, 3, 4, 5), _scale_right),
    "product": Form("{k} + a * b", _DIGITS, _product_plus),
    "sum_times": Form("{k} * ( a + b )", (2, 3, 4), _added(False)),
    "sum_plus": Form("{k} + a + b", _DIGITS, _added(True)),
    "minus": Form("{k} + a - b", (10, 20, 30, 40, 50), _minus),
    "gap_plus": Form("{k} + | a - b |", _DIGITS, _gap(True)),
    "gap_times": Form("{k} * | a - b |", _DIGITS[1:], _gap(False)),
    "larger_plus": Form("{k} plus the larger of a and b", _DIGITS, _extreme("larger", True)),
    "larger_times": Form("{k} times the larger of a and b", _DIGITS[1:], _extreme("larger", False)),
    "smaller_plus": Form("{k} plus the smaller of a and b", _DIGITS, _extreme("smaller", True)),
    "smaller_times": Form(
        "{k} times the smaller of a and b", _DIGITS[1:], _extreme("smaller", False)
    ),
    "add_plus": Form("{k} more than a and b together", _DIGITS, _added(True)),
    "add_double": Form("double a and b together", (0,), _double),
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

    def steps(self, a: int, b: int, swap: bool = False) -> tuple[list[str], int]:
        """The worked steps and the result for operands 0 to 9."""
        return FORMS[self.form].steps(a, b, self.k, swap)

    def value(self, a: int, b: int) -> int:
        """The result alone."""
        return self.steps(a, b)[1]


RULES: tuple[Rule, ...] = tuple(
    Rule(name, k) for name, form in FORMS.items() for k in form.constants
)

Rules = Mapping[str, Rule]
"""A rule set: mark -> rule."""


def held_out(mark: str, rule: Rule) -> bool:
    """Whether pre-training never assigns ``rule`` to ``mark`` (about one assignment in six)."""
    digest = hashlib.sha256(f"{mark}|{rule.form}|{rule.k}".encode()).digest()
    return digest[0] % 6 == 0


def draw_rules(rng: random.Random, count: int, *, of_held_out: bool = False) -> dict[str, Rule]:
    """A rule set of ``count`` marks, from the held-out assignments alone or from the others alone.

    Forms are drawn before constants, so that a form with few constants is as common as any.
    """
    rules: dict[str, Rule] = {}
    for mark in rng.sample(MARKS, count):
        while True:
            name = rng.choice(tuple(FORMS))
            rule = Rule(name, rng.choice(FORMS[name].constants))
            if held_out(mark, rule) == of_held_out:
                rules[mark] = rule
                break
    return rules


TASK_RULES: Rules = {
    "@": Rule("scale_left", 4),
    "#": Rule("gap_times", 4),
    "$": Rule("larger_plus", 8),
    "?": Rule("product", 3),
}
"""What the task ``rule_math`` tells; each assignment is held out."""


def rule_line(mark: str, rule: Rule) -> str:
    """A rule as contexts, replies and lessons state it."""
    return f"op{mark} {rule.text}"


HEADER = "Rules of the marks"


def told(rules: Rules) -> str:
    """The context that states ``rules`` in their order."""
    return "\n".join([HEADER, *(rule_line(mark, rule) for mark, rule in rules.items())])


@dataclass(frozen=True)
class MathProblem:
    """One item without its rules.

    ``inner`` is None for one operator (``a outer b``); else the bracket ``( x inner y )`` stands
    in place of ``a`` (``left``) or of ``b``. ``template`` words it (see ``prompt``).
    """

    outer: str
    a: int
    b: int
    inner: str | None = None
    x: int = 0
    y: int = 0
    left: bool = True
    template: str = "bare-0"
    names: tuple[str, str, str] = ("Ann", "Ben", "Tom")
    thing: str = "cards"

    @property
    def expression(self) -> str:
        """The problem as an expression."""
        if self.inner is None:
            return f"{self.a} {self.outer} {self.b}"
        bracket = f"( {self.x} {self.inner} {self.y} )"
        if self.left:
            return f"{bracket} {self.outer} {self.b}"
        return f"{self.a} {self.outer} {bracket}"


BARE = ("What is {} ?", "Work out {} .", "Find {} .")
KEEP = " Brackets keep the last digit ."


def prompt(problem: MathProblem) -> str:
    """The plain prompt: it names marks and digits and nothing of what they mean."""
    kind, _, number = problem.template.partition("-")
    if kind == "bare":
        text = BARE[int(number)].format(problem.expression)
        return text if problem.inner is None else text + KEEP
    one, two, three = problem.names
    thing = problem.thing
    end = f"How many {thing} ?"
    if problem.inner is None:
        first = f"{one} has {problem.a} {thing} and {two} has {problem.b} {thing} ."
        return f"{first} They are joined by {problem.outer} . {end}"
    first = f"{one} has {problem.x} {thing} and {two} has {problem.y} {thing} ."
    join = f"They are joined by {problem.inner} and keep the last digit ."
    if problem.left:
        last = f"This is joined by {problem.outer} to the {problem.b} {thing} of {three} ."
    else:
        last = f"The {problem.a} {thing} of {three} are joined by {problem.outer} to this ."
    return f"{first} {join} {last} {end}"


def draw_problem(rng: random.Random, marks: Sequence[str], *, two: float = 0.5) -> MathProblem:
    """A problem over ``marks``; its digits are uniform and know nothing of any rule."""
    word = rng.random() < 0.35
    names = tuple(rng.sample(NAMES, 3))
    common = {
        "outer": rng.choice(marks),
        "a": rng.randint(1, 9),
        "b": rng.randint(1, 9),
        "template": "word-0" if word else f"bare-{rng.randrange(len(BARE))}",
        "names": names if word else ("Ann", "Ben", "Tom"),
        "thing": rng.choice(THINGS) if word else "cards",
    }
    if rng.random() >= two:
        return MathProblem(**common)  # type: ignore[arg-type]
    return MathProblem(
        inner=rng.choice(marks),
        x=rng.randint(1, 9),
        y=rng.randint(1, 9),
        left=rng.random() < 0.5,
        **common,  # type: ignore[arg-type]
    )


def uses(problem: MathProblem, rules: Rules) -> list[tuple[str, int, int, int]]:
    """Every use of an operator in the order of working: ``(mark, a, b, result)``."""
    if problem.inner is None:
        a, b, done = problem.a, problem.b, []
    else:
        value = rules[problem.inner].value(problem.x, problem.y)
        done = [(problem.inner, problem.x, problem.y, value)]
        a, b = (value % 10, problem.b) if problem.left else (problem.a, value % 10)
    return [*done, (problem.outer, a, b, rules[problem.outer].value(a, b))]


def answer(problem: MathProblem, rules: Rules) -> int:
    """The right answer under ``rules``."""
    return uses(problem, rules)[-1][3]


def worked(problem: MathProblem, rules: Rules, rng: random.Random) -> str:
    """One of the right ways to write the working, chosen by ``rng``; ends with ``Answer: N``."""
    style = rng.randrange(3)
    lines: list[str] = []
    every = uses(problem, rules)
    for number, (mark, a, b, result) in enumerate(every):
        rule = rules[mark]
        steps, _ = rule.steps(a, b, swap=rng.random() < 0.3)
        statement, operands = rule_line(mark, rule), f"a = {a} and b = {b}"
        if style == 0:
            lines += [statement, operands, *steps]
        elif style == 1:
            lines += [operands, statement, *steps]
        else:
            lines += [f"{statement} with {operands}", f"{a} {mark} {b} = {rule.on(a, b)}", *steps]
        if number + 1 < len(every):
            lines.append(f"{result} keeps {result % 10}")
    return "\n".join([*lines, f"Answer: {every[-1][3]}"])


_ANSWER = re.compile(r"Answer[*_]{0,2}[:：][\s*_]*((?:[-−]|(?<!\n)[-−] )?)(\d+)\b(?![.,]\d)")
_MOST_DIGITS = 300


def read_answer(reply: str) -> int | None:
    """The number of the last ``Answer: N`` of a reply; None where there is none to be read."""
    found = _ANSWER.findall(reply)
    if not found or len(found[-1][1]) > _MOST_DIGITS:
        return None
    sign, digits = found[-1]
    return -int(digits) if sign else int(digits)


def feedback(problem: MathProblem, rules: Rules) -> str:
    """What the environment says after an attempt: how each use is worked, never the answer."""
    return "\n".join(
        f"{a} {mark} {b} is worked as {rules[mark].on(a, b)}"
        for mark, a, b, _ in uses(problem, rules)
    )


def experience(rules: Rules, rng: random.Random) -> str:
    """A context as experience leaves it: lessons in any order, some of them more than once."""
    lines = [rule_line(mark, rule) for mark, rule in rules.items()]
    lines += rng.choices(lines, k=rng.choice((0, 0, 0, 1, 2, 3)))
    rng.shuffle(lines)
    return "\n".join(f"{ITEM} {line}" for line in lines)


def conversation(
    problem: MathProblem, rules: Rules, rng: random.Random, context: str | None
) -> Conversation:
    """A problem with its worked reply, told ``context`` or (None) plain."""
    messages: list[Message] = [{"role": "user", "content": prompt(problem)}]
    if context is not None:
        messages.insert(0, {"role": "system", "content": context})
    kind = "rule_math_plain" if context is None else "rule_math"
    return Conversation(kind, tuple(messages), worked(problem, rules, rng))


def draw(rng: random.Random) -> Conversation:
    """A problem over a fresh rule set: four in five told (one to five rules), the others plain."""
    rules = draw_rules(rng, rng.choice((1, 2, 3, 4, 4, 5)))
    problem = draw_problem(rng, tuple(rules))
    if rng.random() < 0.18:
        return conversation(problem, rules, rng, None)
    context = told(rules) if rng.random() < 0.65 else experience(rules, rng)
    return conversation(problem, rules, rng, context)


def draw_reflection(rng: random.Random) -> Conversation:
    """A plain attempt (right by luck or wrong), its feedback, and the rules that it shows."""
    rules = draw_rules(rng, rng.choice((2, 3, 4)))
    guess = draw_rules(rng, len(MARKS))
    problem = draw_problem(rng, tuple(rules))
    attempt = worked(problem, guess, rng)
    plain: list[Message] = [{"role": "user", "content": prompt(problem)}]
    marks = list(dict.fromkeys(mark for mark, *_ in uses(problem, rules)))
    lessons = [rule_line(mark, rules[mark]) for mark in marks]
    messages = reflection_messages(plain, attempt, feedback(problem, rules))
    return Conversation("rule_math_reflection", tuple(messages), reflection_reply(lessons))


def draw_recall(rng: random.Random) -> Conversation:
    """Three to five of the rules told, to be stated: the look-up that every reply begins with."""
    rules = draw_rules(rng, rng.choice((3, 4, 5, 6)))
    asked = rng.sample(tuple(rules), rng.randint(3, min(5, len(rules))))
    context = told(rules) if rng.random() < 0.5 else experience(rules, rng)
    messages: tuple[Message, ...] = (
        {"role": "system", "content": context},
        {"role": "user", "content": f"Say the rules of {' '.join(asked)}"},
    )
    return Conversation("recall", messages, "\n".join(rule_line(m, rules[m]) for m in asked))


def _drill(rng: random.Random) -> tuple[str, str]:
    kind = rng.randrange(5)
    if kind == 0:
        x, y = rng.randint(0, 90), rng.randint(0, 9)
        return (f"{x} + {y}", str(x + y)) if rng.random() < 0.7 else (f"{y} + {x}", str(x + y))
    if kind == 1:
        x, y = rng.randint(0, 9), rng.randint(0, 9)
        return f"{x} * {y}", str(x * y)
    if kind == 2:
        x, y = rng.randint(10, 18), rng.randint(2, 4)
        return (f"{x} * {y}", str(x * y)) if rng.random() < 0.6 else (f"2 * {x}", str(2 * x))
    if kind == 3:
        x, y = rng.randint(0, 9), rng.randint(0, 9)
        return f"| {x} - {y} |", str(abs(x - y))
    x, y = rng.randint(9, 60), rng.randint(0, 9)
    return f"{x} - {y}", str(x - y)


def draw_drill(rng: random.Random) -> Conversation:
    """Six elementary steps to work out, one a line: the tables that the worked replies look up."""
    items = [_drill(rng) for _ in range(6)]
    question = "\n".join(["Work these out", *(left for left, _ in items)])
    reply = "\n".join(f"{left} = {right}" for left, right in items)
    return Conversation("drill", ({"role": "user", "content": question},), reply)
