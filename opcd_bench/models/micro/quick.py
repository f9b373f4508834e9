"""Quick accuracies, skill by skill, on held-out worlds while pre-training goes on (small n)."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opcd_bench.envs.worlds import chains, choice, handbook, handbook_talk, operators
from opcd_bench.envs.worlds.conversation import Message
from opcd_bench.models.micro import batches, mixture

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def greedy(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Message]],
    limit: int = 200,
    batch: int = 100,
) -> list[str]:
    """Greedy replies by transformers' own generation, prompts padded on the left."""
    import torch

    from opcd_bench.models import cpu

    model.eval()
    cpu.set_causal(model, False)
    replies: list[str] = []
    for at in range(0, len(prompts), batch):
        texts = [
            tokenizer.apply_chat_template(
                [dict(m) for m in messages], tokenize=False, add_generation_prompt=True
            )
            for messages in prompts[at : at + batch]
        ]
        inputs = tokenizer(
            texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
        ).to(model.device)
        with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16):
            ids = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=False,
                max_new_tokens=limit,
            )
        replies += tokenizer.batch_decode(
            ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
    return replies


@dataclass(frozen=True)
class Item:
    """One question of a skill: its messages, and whether a reply to it is right."""

    messages: Sequence[Message]
    is_right: Callable[[str], bool]


def _asked(context: str | None, prompt: str) -> list[Message]:
    system = [] if context is None else [{"role": "system", "content": context}]
    return [*system, {"role": "user", "content": prompt}]


def chain_item(rng: random.Random, tells: str, rules: int, length: int) -> Item:
    """A chain of ``length`` operators over held-out rules; ``tells`` names what is told.

    One of rules, nothing, hint, answer, other (another problem's worked solution).
    """
    known = operators.draw_rules(rng, rules, of_held_out=True)
    chain = chains.draw_chain(rng, tuple(known), (length,))
    right = chains.answer(chain, known)
    other = chains.draw_chain(rng, tuple(known), (length,))
    context: str | None = {
        "rules": operators.told(operators.rule_lines(known)),
        "nothing": None,
        "hint": chains.worked(chain, known, rng),
        "answer": f"The answer is {right}.",
        "other": chains.worked(other, known, rng),
    }[tells]
    return Item(_asked(context, chains.prompt(chain)), lambda r: chains.read_answer(r) == right)


def choice_item(rng: random.Random, tells: str) -> Item:
    """A choice among twelve picks, told as ``chain_item`` tells."""
    picks = choice.draw_picks(rng, 12)
    asked = choice.draw_choice(rng, tuple(picks))
    right = choice.answer(asked, picks)
    context = {
        "rules": operators.told(choice.pick_lines(picks)),
        "nothing": None,
        "hint": right,
        "answer": f"The answer is {picks[asked.name]}.",
    }[tells]
    return Item(_asked(context, choice.prompt(asked)), lambda reply: reply.strip() == right)


def handbook_item(rng: random.Random, facts: int, *, reverse: bool = False) -> Item:
    """A question about one of ``facts``, by the thing or (``reverse``) by the value."""
    drawn = handbook_talk.draw_facts(rng, facts)
    fact = rng.choice(drawn)
    relation = handbook.BY_NAME[fact.relation]
    wordings, of = (
        (relation.reversed, fact.value) if reverse else (relation.asked["test"], fact.thing)
    )
    kind, right = (handbook.THING, fact.thing) if reverse else (fact.relation, fact.value)
    prompt = handbook.prompt(rng.choice(wordings).format(x=of))
    return Item(
        _asked(handbook.told(drawn), prompt), lambda reply: handbook.named(kind, reply) == {right}
    )


SKILLS: Mapping[str, Callable[[random.Random], Item]] = {
    "rules_4_length_1": lambda rng: chain_item(rng, "rules", 4, 1),
    **{
        f"rules_12_length_{n}": functools.partial(chain_item, tells="rules", rules=12, length=n)
        for n in (1, 2, 3, 4)
    },
    "rules_24_length_2": lambda rng: chain_item(rng, "rules", 24, 2),
    "nothing_length_2": lambda rng: chain_item(rng, "nothing", 12, 2),
    "hint_length_3": lambda rng: chain_item(rng, "hint", 12, 3),
    "answer_length_3": lambda rng: chain_item(rng, "answer", 12, 3),
    "other_hint_length_3": lambda rng: chain_item(rng, "other", 12, 3),
    **{
        f"choice_{tells}": functools.partial(choice_item, tells=tells)
        for tells in ("rules", "nothing", "hint", "answer")
    },
    "handbook_6": lambda rng: handbook_item(rng, 6),
    "handbook_12": lambda rng: handbook_item(rng, 12),
    "handbook_12_reversed": lambda rng: handbook_item(rng, 12, reverse=True),
}
"""What is asked while pre-training goes on, each over worlds of its own."""


def accuracies(
    model: Any, tokenizer: PreTrainedTokenizerBase, shares: mixture.Shares, items: int = 100
) -> dict[str, float]:
    """Greedy accuracy on ``items`` questions of each of `SKILLS`, and the losses by kind."""
    result = losses(model, tokenizer, shares)
    drawn = {}
    for skill, item in SKILLS.items():
        rng = random.Random(7)
        drawn[skill] = [item(rng) for _ in range(items)]
    for skill, asked in drawn.items():
        replies = greedy(model, tokenizer, [one.messages for one in asked])
        result[skill] = sum(one.is_right(r) for one, r in zip(asked, replies, strict=True)) / items
    return result


def losses(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    shares: mixture.Shares,
    items: int = 600,
) -> dict[str, float]:
    """Mean loss per reply token of each kind of conversation, on fresh draws of the mixture."""
    import torch

    model.eval()
    drawn = mixture.conversations(-1, 1_000_000, items, shares)
    sums: dict[str, list[float]] = {}
    for one in drawn:
        encoded = batches.encode(tokenizer, [one])
        if not encoded:
            continue
        ids = torch.tensor([encoded[0].ids], device=model.device)
        with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16):
            logits = model(input_ids=ids[:, :-1]).logits[0, encoded[0].start - 1 :]
        loss = torch.nn.functional.cross_entropy(logits.float(), ids[0, encoded[0].start :])
        sums.setdefault(one.kind, []).append(loss.item())
    return {f"loss_{kind}": sum(found) / len(found) for kind, found in sorted(sums.items())}
