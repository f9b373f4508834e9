"""Pre-training conversations over chains: told rules, a hint, an answer, earlier attempts, nothing.

What is told is worded as the harness tells it: rules and lessons as a context, the example's own
worked solution as it stands (``Teacher(reads="hint")``), ``The answer is N.`` for its reference,
and raw traces as `experience` keeps them. Where less is told than the problem needs, the reply
guesses the rest: the rules behind it are drawn like any.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from opcd_bench.envs.worlds import chains, operators
from opcd_bench.envs.worlds.chains import STYLES, Chain
from opcd_bench.envs.worlds.conversation import Conversation, Message
from opcd_bench.envs.worlds.operators import Rules

LENGTHS = (1, 2, 2, 3, 3, 4)
BY = {
    "rules": "By the rules told :",
    "hint": "By the hint told :",
    "answer": "By the answer told :",
}
"""How a quarter of the replies open that were told something, and no other reply: what a student
says of a context that it does not have can be counted."""


def style_line(style: str) -> str:
    """What asks for one of the wordings of a working."""
    return f"Style {style}"


def _reply(
    chain: Chain, rules: Rules, rng: random.Random, by: str | None, style: str | None = None
) -> str:
    text = chains.worked(chain, rules, rng, style)
    return f"{BY[by]}\n{text}" if by is not None and rng.random() < 0.25 else text


def _conversation(kind: str, context: str | None, chain: Chain, reply: str) -> Conversation:
    user: Message = {"role": "user", "content": chains.prompt(chain)}
    system: Message | None = None if context is None else {"role": "system", "content": context}
    return Conversation(kind, (user,) if system is None else (system, user), reply)


def draw_school(rng: random.Random) -> str | None:
    """A school in three of ten conversations."""
    return rng.choice(operators.SCHOOLS) if rng.random() < 0.3 else None


def rule_context(rng: random.Random, lines: Sequence[str], school: str | None) -> str:
    """Rules as a context: four in five a list, the others lessons."""
    if rng.random() < 0.2:
        return operators.as_items(rng, lines)
    return operators.told(lines, school)


def _told(rng: random.Random, count: int, lengths: Sequence[int]) -> Conversation:
    rules = operators.draw_rules(rng, count)
    school = draw_school(rng)
    asked = school if rng.random() < 0.7 else None
    chain = chains.draw_chain(rng, tuple(rules), lengths, asked)
    lines = operators.rule_lines(rules)
    kind = "told"
    if rng.random() < 0.08:  # A context that was put together from few attempts lacks some.
        lines, kind = rng.sample(lines, rng.randint(1, count)), "told_in_part"
    context = rule_context(rng, lines, school)
    style = rng.choice(STYLES) if rng.random() < 0.1 else None
    if style is not None:
        context = f"{context}\n{style_line(style)}"
    return _conversation(kind, context, chain, _reply(chain, rules, rng, "rules", style))


def draw_few(rng: random.Random) -> Conversation:
    """Two to six rules told, one or two operators: what pre-training begins with."""
    return _told(rng, rng.randint(2, 6), (1, 1, 2))


def draw_some(rng: random.Random) -> Conversation:
    """Four to twelve rules told, one to three operators."""
    return _told(rng, rng.randint(4, 12), (1, 2, 2, 3))


def draw(rng: random.Random) -> Conversation:
    """Mostly twelve rules told, in all four to thirty, one to four operators."""
    share = rng.random()
    if share < 0.5:
        count = rng.randint(11, 14)
    elif share < 0.75:
        count = rng.randint(4, 10)
    else:
        count = rng.randint(15, 22 if share < 0.93 else 30)
    return _told(rng, count, LENGTHS)


NO = "No :"
"""What a reply says where it takes back the use before."""


def draw_rescue(rng: random.Random) -> Conversation:
    """Rules told and a working begun with a rule that was not told: it is taken back and mended."""
    rules = operators.draw_rules(rng, rng.randint(4, 14))
    chain = chains.draw_chain(rng, tuple(rules), LENGTHS)
    place, style = rng.randrange(len(chain.steps)), rng.choice(STYLES)
    name = chain.steps[place][0]
    wrong = operators.draw_rule(rng, name)
    while wrong == rules[name]:
        wrong = operators.draw_rule(rng, name)
    right = chains.blocks(chain, rules, rng, style)
    swapped = Chain(chains.uses(chain, rules)[place][1], chain.steps[place:])
    bad = chains.blocks(swapped, {**rules, name: wrong}, rng, style)[0]
    stated = next(at for at, line in enumerate(bad) if f"#{name}" in line)
    begun = [line for lines in right[:place] for line in lines]
    begun += bad[: rng.randint(stated + 1, max(stated + 1, len(bad) - 1))]
    reply = "\n".join([NO, *(line for lines in right[place:] for line in lines)])
    context = rule_context(rng, operators.rule_lines(rules), None)
    drawn = _conversation("rescue", context, chain, reply)
    return Conversation(drawn.kind, drawn.messages, drawn.reply, "\n".join(begun) + "\n")


def draw_plain(rng: random.Random) -> Conversation:
    """Nothing told, or a style alone: the rules are guessed."""
    rules = operators.draw_rules(rng, 4)
    chain = chains.draw_chain(rng, tuple(rules), LENGTHS, draw_school(rng))
    style = rng.choice(STYLES) if rng.random() < 0.15 else None
    context = None if style is None else style_line(style)
    return _conversation("plain", context, chain, chains.worked(chain, rules, rng, style))


def draw_hint(rng: random.Random) -> Conversation:
    """The problem's own worked solution told, only its answer, or another problem's solution."""
    rules = operators.draw_rules(rng, rng.choice((3, 4, 5, 6)))
    chain = chains.draw_chain(rng, tuple(rules), LENGTHS, draw_school(rng))
    share = rng.random()
    if share < 0.45:
        reply = _reply(chain, rules, rng, "hint")
        return _conversation("hint", chains.worked(chain, rules, rng), chain, reply)
    if share < 0.75:
        reply = _reply(chain, rules, rng, "answer")
        return _conversation(
            "answer", f"The answer is {chains.answer(chain, rules)}.", chain, reply
        )
    other = chains.draw_chain(rng, tuple(rules), LENGTHS)
    reply = _reply(chain, rules, rng, "hint")
    return _conversation("other_hint", chains.worked(other, rules, rng), chain, reply)


def draw_traces(rng: random.Random) -> Conversation:
    """One to four earlier attempts with their feedback told, as they were: raw traces."""
    rules = operators.draw_rules(rng, rng.choice((2, 3, 4)))
    parts = []
    for _ in range(rng.randint(1, 4)):
        tried = chains.draw_chain(rng, tuple(rules), (1, 1, 2))
        believed = operators.draw_rules(rng, len(operators.NAMES))
        parts += ["TASK", chains.prompt(tried), "REPLY", chains.worked(tried, believed, rng)]
        parts += ["FEEDBACK", chains.feedback(tried, rules)]
    chain = chains.draw_chain(rng, tuple(rules), (1, 2))
    return _conversation("traces", "\n".join(parts), chain, _reply(chain, rules, rng, "rules"))
