"""Drift: mean token KL from the base model on the base's own stored replies to retention prompts.

It is 0 before training and has no grading noise. Nothing is ever trained on those replies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opcd_bench.config.measures import DRIFT, NATS
from opcd_bench.errors import DataError
from opcd_bench.evaluation.continuations import Continuation, logps
from opcd_bench.evaluation.scores import Score
from opcd_bench.hashing import digest
from opcd_bench.models.decoded import opening
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.models.prompts import prompt_ids

MOST = 64
"""Replies of each retention task that drift is measured on: its first ones."""


def of_base(base: PromptFormat, measured: Sequence[Score]) -> Score:
    """The score of the base itself, 0 everywhere, with the replies that it gave, as token ids.

    ``measured``: its scores on the other retention tasks. Raises DataError where none of them has
    replies.
    """
    found = [one for score in measured for one in _of_score(base, score)]
    if not found:
        names = ", ".join(score.task for score in measured)
        raise DataError(
            f"retention {DRIFT!r} is measured on the base model's responses to the other retention "
            f"tasks, and none of {names} asks for any. Add one that does, such as ifeval_micro"
        )
    return _score(base, found, [0.0] * len(found))


def measure(base: LoadedModel, loaded: LoadedModel, of_base: Score) -> Score:
    """KL(base || model) in nats, averaged over the tokens of each reply of ``of_base``."""
    replies = [
        Continuation(row["example_id"], tuple(row["prompt_ids"]), tuple(row["reply_ids"]))
        for row in of_base.samples
    ]
    values = [
        float((now.exp() * (now - other)).sum(-1).mean())
        for now, other in zip(logps(base, replies), logps(loaded, replies), strict=True)
    ]
    return _score(loaded, replies, values)


def _score(loaded: PromptFormat, replies: Sequence[Continuation], values: Sequence[float]) -> Score:
    protocol = {
        "measure": DRIFT,
        "replies": digest([[one.id, one.before, one.after] for one in replies]),
        "vocabulary": loaded.vocab_size,
    }
    tokens = [len(one.after) for one in replies]
    weighted = sum(value * count for value, count in zip(values, tokens, strict=True))
    return Score(
        task=DRIFT,
        split=NATS,
        primary="kl",
        metrics={"kl": sum(values) / len(values), "kl_by_token": weighted / sum(tokens)},
        n=len(values),
        n_unscored=0,
        protocol_hash=digest(protocol),
        samples=tuple(
            {
                "task": DRIFT,
                "split": NATS,
                "example_id": one.id,
                "sample": 0,
                "score": value,
                "outcome": "measured",
                "prompt_ids": list(one.before),
                "reply_ids": list(one.after),
            }
            for one, value in zip(replies, values, strict=True)
        ),
    )


def _of_score(base: PromptFormat, score: Score) -> Iterator[Continuation]:
    """The replies of a score's first samples: of a game those of all turns."""
    for sample in score.samples[:MOST]:
        for before, text, finish in _asked(base, sample):
            said = text.removeprefix(opening(base.tokenizer, before))
            after = tuple(int(i) for i in
                          base.tokenizer(said, add_special_tokens=False)["input_ids"])  # fmt: skip
            after += base.eos_ids[:1] if finish == "stop" else ()
            if after and len(before) + len(after) <= base.max_length:
                yield Continuation(digest([before, after], 16), before, after)


def _asked(
    base: PromptFormat, sample: Mapping[str, Any]
) -> Iterator[tuple[tuple[int, ...], str, str | None]]:
    """(prompt's ids, reply, how it ended) of a stored sample, a task's of ours or lm-eval's."""
    for turn in sample.get("turns", ()):
        yield prompt_ids(base, turn["messages"]), turn["reply"], turn["finish"]
    if sample.get("reply") is not None:
        ids = base.tokenizer(sample["prompt"], add_special_tokens=False)["input_ids"]
        yield tuple(int(i) for i in ids), sample["reply"], sample["finish"]
