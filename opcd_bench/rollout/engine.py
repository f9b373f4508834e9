"""The engine contract: prompts in, replies out, each example's noise its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from opcd_bench.errors import ConfigError, DataError

RAW_TEMPERATURE = 1.0
"""vLLM reports log-probs before its temperature and filters, whatever it samples with."""


@dataclass(frozen=True)
class Sampling:
    """How replies are drawn: softmax of logits / temperature, then top-k, then top-p.

    ``temperature`` 0 is greedy; ``top_k`` 0 and ``top_p`` 1 switch the filters off. A reply ends
    with the first end-of-sequence token, which belongs to it, or after ``max_completion_length``
    tokens.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_completion_length: int = 256

    def __post_init__(self) -> None:
        bad = [
            text
            for ok, text in (
                (self.temperature >= 0.0, f"temperature = {self.temperature} (allowed: >= 0)"),
                (0.0 < self.top_p <= 1.0, f"top_p = {self.top_p} (allowed: 0 < top_p <= 1)"),
                (self.top_k >= 0, f"top_k = {self.top_k} (allowed: >= 0)"),
                (
                    self.max_completion_length >= 1,
                    f"max_completion_length = {self.max_completion_length} (allowed: >= 1)",
                ),
            )
            if not ok
        ]
        if bad:
            raise ConfigError("sampling: " + "; ".join(bad))

    @property
    def greedy(self) -> bool:
        """Whether no chance is left."""
        return self.temperature == 0.0


@dataclass(frozen=True)
class Request:
    """A prompt's token ids and the seed of its noise: batch composition changes nothing."""

    prompt_ids: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Reply:
    """What was written.

    ``ids`` end with the end-of-sequence token if ``finish`` is ``stop``; ``logprobs`` are those of
    the written tokens under the full softmax before top-k and top-p, at ``logprob_temperature``
    (None: at the sampling temperature, at 1 if greedy); ``text`` is decoded without special tokens,
    marks of thoughts apart, and begins with that of a thought that the prompt opened (`answered`).
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish: Literal["stop", "length"]
    logprob_temperature: float | None = None


def check_requests(
    requests: Sequence[Request], sampling: Sampling, name: str, max_length: int
) -> None:
    """Raise DataError for a prompt that is empty, or too long for the model to answer.

    ``name`` and ``max_length`` (in tokens, prompt and reply) are the model's.
    """
    most = max_length - sampling.max_completion_length
    for index, request in enumerate(requests):
        if not request.prompt_ids:
            raise DataError(f"prompt {index} is empty; a prompt needs at least one token")
        if len(request.prompt_ids) > most:
            raise DataError(
                f"prompt {index} has {len(request.prompt_ids)} tokens and its response may have "
                f"{sampling.max_completion_length} more, but model {name!r} can read only "
                f"{max_length} in total; lower max_completion_length, or set max_prompt_length = "
                f"{max(most, 0)} with overlong = 'skip'"
            )


class Engine(Protocol):
    """Anything that turns requests into replies, in the same order."""

    protocol_name: str
    """What stored protocol hashes call it: a constant, whatever becomes of the class."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Reply]:
        """One reply a request."""
        ...
