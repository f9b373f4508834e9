"""Replies from vLLM, in process or served, with the weights of a live transformers model."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from opcd_bench.errors import LEAVE_OUT, CellFailed, Diverged, EngineDied
from opcd_bench.models.decoded import reply_text
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.rollout.engine import RAW_TEMPERATURE, Reply, Request, Sampling, check_requests
from opcd_bench.rollout.vllm_probe import Look, look, unchanged, verify, verify_newest

_SEEDS = 2**63
MOST_BIASED = 1024
"""Tokens of a request that vLLM's V2 model runner can give a bias."""
_NEVER = -100.0
"""The smallest bias of a token that vLLM's server takes."""


@dataclass(frozen=True)
class RawReply:
    """What a backend wrote: ids with their end of sequence, and log-probs at temperature 1."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish: Literal["stop", "length"]


def finish_of(reason: object) -> Literal["stop", "length"]:
    """How a reply ended, from vLLM's finish_reason; EngineDied for one that was broken off."""
    if reason == "length":
        return "length"
    if reason == "stop":
        return "stop"
    raise EngineDied(
        f"vLLM stopped in the middle of a response (finish_reason {reason!r}); its log says why. "
        "Nothing is lost: type the same command again"
    )


def sampling_words(
    request: Request, sampling: Sampling, stop_ids: Sequence[int], padding: Sequence[int]
) -> dict[str, Any]:
    """What vLLM is asked, in its own words; nothing is left to a model's own defaults.

    ``padding``: ids that are not to be sampled.
    """
    return {
        **({"logit_bias": dict.fromkeys(padding, _NEVER)} if padding else {}),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "max_tokens": sampling.max_completion_length,
        "seed": request.seed % _SEEDS,
        "stop_token_ids": list(stop_ids),
        "logprobs": 0,
    }


@dataclass(frozen=True)
class PromptLogProbs:
    """Log-probs (temperature 1) of the tokens of one sequence, and of others at their places.

    Row t, from 0, is the distribution after t + 1 tokens: ``own[t]`` is the log-prob of the token
    that stands there, ``ids[t]`` and ``logps[t]`` the listed ones. Rows may differ in length.
    """

    own: tuple[float, ...]
    ids: tuple[tuple[int, ...], ...]
    logps: tuple[tuple[float, ...], ...]

    def last(self, count: int) -> PromptLogProbs:
        """The rows of the last ``count`` tokens: those of a reply that ends the sequence."""
        start = len(self.own) - count
        return PromptLogProbs(self.own[start:], self.ids[start:], self.logps[start:])


class Backend(Protocol):
    """A vLLM that can be talked to; EngineDied where it does not answer any more."""

    name: str
    arbitrary_ids: bool
    """Whether ``score`` gives log-probs at ids of the caller's choice (`losses.served`, tier I)."""
    shared: bool
    """Whether somebody else may put weights into it: a server."""
    biases: bool
    """Whether it can keep tokens from being sampled: not in speculative decoding."""

    def write(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        stop_ids: Sequence[int],
        padding: Sequence[int] = (),
    ) -> list[RawReply]:
        """One reply a request, in order; each draws its noise from its own seed.

        None has a token of ``padding``, where it ``biases``.
        """
        ...

    def score(
        self,
        sequences: Sequence[tuple[int, ...]],
        top: int,
        asked: Sequence[Sequence[Sequence[int]]] | None = None,
    ) -> list[PromptLogProbs]:
        """The ``top`` likeliest ids after each token of each sequence, with the token's own.

        ``asked`` (with ``arbitrary_ids`` alone): for each sequence the ids wanted at its last rows,
        in place of the likeliest ones; only those rows come back.
        """
        ...

    def load(self, loaded: LoadedModel) -> None:
        """Put the weights of a model of the same kind into the running engine."""
        ...


class VLLMEngine:
    """The engine contract on a vLLM whose weights follow a transformers model.

    Engines of several models of one kind may share a `WeightSync`: whoever generates next pushes
    its weights, if the backend does not hold them as they are now. What was pushed is verified:
    log-probs must be the trainer's to rounding, and have moved with them (`vllm_probe`).
    """

    protocol_name = "VLLMEngine"

    def __init__(self, loaded: LoadedModel, sync: WeightSync) -> None:
        self.loaded, self.sync = loaded, sync

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Reply]:
        """One reply a request, in order, from the model's weights as they are now.

        Raises DataError for a prompt that is empty or too long, EngineDied for a vLLM that is gone.
        """
        check_requests(requests, sampling, self.loaded.name, self.loaded.max_length)
        prompts = [request.prompt_ids for request in requests]
        return replies(self.sync.refresh(self.loaded, prompts), requests, sampling, self.loaded)


class ServedEngine:
    """The engine contract on a server that holds the right weights already, and keeps them."""

    protocol_name = "ServedEngine"

    def __init__(self, reader: PromptFormat, backend: Backend) -> None:
        self.reader, self.backend = reader, backend

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Reply]:
        """One reply a request, in order."""
        check_requests(requests, sampling, self.reader.name, self.reader.max_length)
        return replies(self.backend, requests, sampling, self.reader)


def replies(
    backend: Backend, requests: Sequence[Request], sampling: Sampling, reader: PromptFormat
) -> list[Reply]:
    """What a backend wrote, checked and decoded by the reader's tokenizer.

    Rows of the LM head that are padding are not sampled, as by the HF engine and in the loss.
    """
    found = []
    rows = reader.padded_rows if isinstance(reader, LoadedModel) else 0
    can = rows <= MOST_BIASED and backend.biases
    padding = range(reader.vocab_size, reader.vocab_size + rows) if can else ()
    for written in backend.write(requests, sampling, reader.eos_ids, padding):
        if max(written.ids, default=0) >= reader.vocab_size:
            said = (
                f"vLLM generated token {max(written.ids)}, but the vocabulary of {reader.name!r} "
                f"has only {reader.vocab_size} tokens (the rest of its LM head is padding). "
            )
            if padding and backend.biases:
                raise Diverged(
                    f"{said}It was given a bias of {_NEVER:g}, so the weights have diverged; "
                    f"{LEAVE_OUT}"
                )
            raise CellFailed(
                f"{said}vLLM cannot be kept from that here; sample with transformers (engine = "
                "'hf', and no teacher_url), or without speculative_config where it has one"
            )
        if not all(map(math.isfinite, written.logprobs)):
            raise Diverged(
                f"vLLM gave log-probabilities of {reader.name!r} that are not finite, so the "
                f"weights have diverged; {LEAVE_OUT}"
            )
        text = reply_text(reader.tokenizer, written.ids)
        logprobs = tuple(round(x, 6) for x in written.logprobs)
        found.append(Reply(written.ids, logprobs, text, written.finish, RAW_TEMPERATURE))
    return found


# --- weights ----------------------------------------------------------------------------------

_State = tuple[bool, tuple[int, ...]]


class WeightSync:
    """A backend whose weights follow those of whichever model generates next."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        # A weak reference, not an id: another module may come to lie where a dead one lay.
        self._module: Callable[[], object | None] = lambda: None
        self._state: _State | None = None
        self._seen: Look | None = None

    def refresh(self, loaded: LoadedModel, prompts: Sequence[tuple[int, ...]] = ()) -> Backend:
        """The backend with the model's weights as they are now, pushed and verified if need be.

        ``prompts``: text on which the weights after these will be told from them.
        """
        now = _state(loaded)
        held = self._module() is loaded.model and self._state == now
        if held and self.backend.shared:
            held = self._seen is not None and unchanged(self.backend, self._seen)
        if not held:
            self._state = None
            self.backend.load(loaded)
            verify(self.backend, loaded)
            if self._seen is not None:
                verify_newest(self.backend, loaded, self._seen)
            self._seen = look(self.backend, loaded, prompts, twice=self.backend.shared)
            self._module, self._state = weakref.ref(loaded.model), now
        return self.backend


def _state(loaded: LoadedModel) -> _State:
    """A state of weights: every change in place, an optimiser's or a copy, counts a version up."""
    on = loaded.adapter is not None and loaded.adapter.on
    return on, tuple(p._version for p in loaded.model.parameters())
