"""Quick told / plain accuracies on held-out worlds while pre-training goes on (greedy, small n)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from opcd_bench.envs.worlds import rule_math
from opcd_bench.envs.worlds.conversation import Message
from opcd_bench.models.micro import batches, mixture

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def greedy(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Message]],
    limit: int = 160,
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


def accuracies(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    shares: Mapping[str, float],
    items: int = 100,
) -> dict[str, float]:
    """Accuracy on ``items`` held-out rule sets each: told with one operator, with two, plain."""
    rng = random.Random(7)
    result = losses(model, tokenizer, shares)
    for label, is_told, two in (
        ("told_1", True, 0.0),
        ("told_2", True, 1.0),
        ("plain", False, 0.5),
    ):
        prompts, answers = [], []
        for _ in range(items):
            rules = rule_math.draw_rules(rng, 4, of_held_out=True)
            problem = rule_math.draw_problem(rng, tuple(rules), two=two)
            messages: list[Message] = [{"role": "user", "content": rule_math.prompt(problem)}]
            if is_told:
                messages.insert(0, {"role": "system", "content": rule_math.told(rules)})
            prompts.append(messages)
            answers.append(rule_math.answer(problem, rules))
        replies = greedy(model, tokenizer, prompts)
        right = [rule_math.read_answer(r) == a for r, a in zip(replies, answers, strict=True)]
        result[f"rule_math_{label}"] = sum(right) / items
    return result


def losses(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    shares: Mapping[str, float],
    items: int = 400,
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
