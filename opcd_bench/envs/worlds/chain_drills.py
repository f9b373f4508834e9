"""Short drills over operators: rules to state, uses to work out, elementary steps, reflections."""

from __future__ import annotations

import random

from opcd_bench.envs.worlds import chains, operators
from opcd_bench.envs.worlds.chain_talk import rule_context
from opcd_bench.envs.worlds.conversation import Conversation, Message
from opcd_bench.envs.worlds.reflection import reflection_messages, reflection_reply


def _asked(kind: str, context: str | None, question: str, reply: str) -> Conversation:
    user: Message = {"role": "user", "content": question}
    if context is None:
        return Conversation(kind, (user,), reply)
    return Conversation(kind, ({"role": "system", "content": context}, user), reply)


def _rules(rng: random.Random, most: int) -> tuple[dict[str, operators.Rule], str]:
    rules = operators.draw_rules(rng, rng.randint(3, most))
    return rules, rule_context(rng, operators.rule_lines(rules), None)


def draw_recall(rng: random.Random) -> Conversation:
    """Three to eight of the rules told, to be stated: the look-up that every use begins with."""
    rules, context = _rules(rng, 14)
    asked = rng.sample(tuple(rules), rng.randint(3, min(8, len(rules))))
    reply = "\n".join(operators.rule_line(name, rules[name].text) for name in asked)
    return _asked("recall", context, f"Say the rules of {' '.join(asked)}", reply)


def draw_uses(rng: random.Random) -> Conversation:
    """Three to five uses of operators told, each worked in one line."""
    rules, context = _rules(rng, 10)
    items = [
        (rng.choice(tuple(rules)), rng.randint(0, 9), rng.randint(1, 9))
        for _ in range(rng.randint(3, 5))
    ]
    question = "\n".join(["Work out each", *(f"{a} {name} {b}" for name, a, b in items)])
    reply = "\n".join(chains.in_line(name, a, b, rules, rng.random() < 0.3) for name, a, b in items)
    return _asked("uses", context, question, reply)


def _step(rng: random.Random) -> tuple[str, int]:
    kind = rng.randrange(5)
    x, y = rng.randint(0, 9), rng.randint(0, 9)
    if kind == 0:
        ten = rng.choice((0, 0, 10, 20, 30))
        return (
            (f"{ten + x} + {y}", ten + x + y)
            if rng.random() < 0.6
            else (
                f"{y} + {ten + x}",
                ten + x + y,
            )
        )
    if kind == 1:
        k, z = rng.randint(2, 5), rng.randint(0, 18)
        return (f"{k} * {x}", k * x) if k > 3 else (f"{k} * {z}", k * z)
    if kind == 2:
        return f"| {x} - {y} |", abs(x - y)
    if kind == 3:
        z = rng.randint(9, 39)
        return f"{z} - {y}", z - y
    word, pick = rng.choice((("larger", max), ("smaller", min)))
    return f"{word} of {x} and {y}", pick(x, y)


def draw_steps(rng: random.Random) -> Conversation:
    """Eight elementary steps to work out, one a line: the tables that workings look up."""
    items = [_step(rng) for _ in range(8)]
    question = "\n".join(["Work these out", *(left for left, _ in items)])
    reply = "\n".join(f"{left} = {right}" for left, right in items)
    return _asked("steps", None, question, reply)


def draw_reflection(rng: random.Random) -> Conversation:
    """A plain attempt (right by luck or wrong), its feedback, and the rules that it shows."""
    rules = operators.draw_rules(rng, rng.randint(1, 4))
    chain = chains.draw_chain(rng, tuple(rules), (1, 2, 3, 4))
    believed = {name: operators.draw_rule(rng, name) for name in rules}
    attempt = chains.worked(chain, believed if rng.random() < 0.9 else rules, rng)
    messages = [{"role": "user", "content": chains.prompt(chain)}]
    asked = tuple(reflection_messages(messages, attempt, chains.feedback(chain, rules)))
    used = dict.fromkeys(name for name, _ in chain.steps)
    lessons = [operators.rule_line(name, rules[name].text) for name in used]
    return Conversation("reflection", asked, reflection_reply(lessons))
