"""Attempts that another writer began: its turns so far, and the first tokens of the next reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from opcd_bench.models.decoded import opening, reply_text
from opcd_bench.models.loaded import PromptFormat
from opcd_bench.rollout.answered import answered
from opcd_bench.rollout.engine import Engine, Reply, Request, Sampling
from opcd_bench.rollout.trajectory import Trajectory


@dataclass(frozen=True)
class Begun:
    """Whole ``replies`` of the first turns, and the first ``ids`` of the reply to the next one."""

    replies: tuple[Reply, ...] = ()
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()


NOTHING = Begun()


def begun(trajectory: Trajectory, share: float) -> Begun:
    """The first ``share`` (below 1) of the tokens of an attempt's replies, rounded down.

    Its last token, which may end the reply, is never among them.
    """
    left = int(share * sum(len(turn.reply.ids) for turn in trajectory.turns))
    replies: list[Reply] = []
    for turn in trajectory.turns:
        reply = turn.reply
        if left < len(reply.ids):
            return Begun(tuple(replies), reply.ids[:left], reply.logprobs[:left])
        replies.append(reply)
        left -= len(reply.ids)
    raise ValueError(f"a share below 1 of at least one token leaves a token to write: {share}")


def written(
    engine: Engine,
    prompts: Sequence[tuple[Request, Begun]],
    sampling: Sampling,
    reader: PromptFormat | PreTrainedTokenizerBase,
) -> list[Reply]:
    """One reply a prompt, in order, each going on from the ids that its attempt has.

    Replies hold those ids too, and with them no more than ``max_completion_length`` tokens. Noise
    is that of the request, whatever is asked beside it.
    """
    tokenizer = reader.tokenizer if isinstance(reader, PromptFormat) else reader
    found: dict[int, Reply] = {}
    for places, length in _calls(prompts, sampling.max_completion_length, reader):
        asked = [
            replace(request, prompt_ids=(*request.prompt_ids, *of.ids))
            for request, of in (prompts[place] for place in places)
        ]
        replies = answered(
            engine, asked, replace(sampling, max_completion_length=length), tokenizer
        )
        for place, reply in zip(places, replies, strict=True):
            request, of = prompts[place]
            most = sampling.max_completion_length
            found[place] = _joined(of, reply, request, most, tokenizer) if of.ids else reply
    return [found[place] for place in range(len(prompts))]


def _calls(
    prompts: Sequence[tuple[Request, Begun]],
    most: int,
    reader: PromptFormat | PreTrainedTokenizerBase,
) -> list[tuple[list[int], int]]:
    """Which prompts are asked together, and how many tokens each may get: as few calls as fit.

    All that the model has room for at the length of the shortest beginning; the others by theirs.
    """
    if not prompts:
        return []
    shortest = min(len(of.ids) for _, of in prompts)
    room = reader.max_length if isinstance(reader, PromptFormat) else None
    together: dict[int, list[int]] = {}
    for place, (request, of) in enumerate(prompts):
        needed = len(request.prompt_ids) + len(of.ids) + most - shortest
        fits = room is None or needed <= room
        together.setdefault(shortest if fits else len(of.ids), []).append(place)
    return [(places, most - begins) for begins, places in sorted(together.items())]


def _joined(
    of: Begun, reply: Reply, request: Request, most: int, tokenizer: PreTrainedTokenizerBase
) -> Reply:
    """What was begun and what follows, as one reply to the prompt before both."""
    ids = (*of.ids, *reply.ids)
    text = opening(tokenizer, request.prompt_ids) + reply_text(tokenizer, ids[:most])
    return replace(
        reply,
        ids=ids[:most],
        logprobs=(*of.logprobs, *reply.logprobs)[:most],
        text=text,
        finish="length" if len(ids) > most else reply.finish,
    )
