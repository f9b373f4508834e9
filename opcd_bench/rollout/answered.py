"""Replies as they are read: asked of an engine, thoughts that the prompt began made whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from opcd_bench.models.decoded import opening
from opcd_bench.rollout.engine import Engine, Reply, Request, Sampling


def answered(
    engine: Engine,
    requests: Sequence[Request],
    sampling: Sampling,
    tokenizer: PreTrainedTokenizerBase,
) -> list[Reply]:
    """One reply a request, in order; everybody who reads replies' text asks here.

    Where the chat template opens a thought in the prompt, the reply begins within it, and its text
    begins with the template's mark. Otherwise what is cut before the thought ends would be taken
    for what is said.
    """
    replies = engine.generate(requests, sampling)
    return [
        replace(reply, text=mark + reply.text)
        if (mark := opening(tokenizer, request.prompt_ids))
        else reply
        for request, reply in zip(requests, replies, strict=True)
    ]
