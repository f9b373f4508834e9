"""What a vLLM server answers, read as values: any other shape is one message, never a crash."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from opcd_bench.errors import ModelError
from opcd_bench.rollout.vllm import PromptLogProbs, RawReply, finish_of

T = TypeVar("T")

WRONG_TYPES = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading an answer raises where it has another shape."""
SHOWN = 60


class Served(NamedTuple):
    """The model that a server serves, and its window in tokens."""

    model: str
    max_length: int


def parsed(name: str, path: str, content: bytes) -> Any:
    """An answer's JSON; ModelError where it has none."""
    if not content:
        return {}
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # UnicodeDecodeError and huge integers are ValueErrors
        start = content[:SHOWN].decode("utf-8", "replace")
        raise ModelError(_foreign(name, path, f"no JSON, but {start!r}")) from None


def served(name: str, answer: Any) -> Served:
    """What ``/v1/models`` lists first; ModelError where it is no vLLM server's list."""
    models = _read(name, "/v1/models", answer, lambda: list(answer.get("data", [])))
    if not models:
        raise ModelError(f"{name} serves no model; start it with: vllm serve MODEL")
    first = models[0]
    model = _read(name, "/v1/models", answer, lambda: _text(first["id"]))
    longest = _read(name, "/v1/models", answer, lambda: first.get("max_model_len"))
    if not _is_whole(longest) or longest < 1:
        raise ModelError(
            f"{name} does not report its max_model_len, so it is not a vLLM server; start one "
            "with: vllm serve MODEL"
        )
    return Served(model, longest)


def choice(name: str, answer: Any) -> dict[str, Any]:
    """The one completion of an answer."""
    return _read(name, "/v1/completions", answer, lambda: _object(answer["choices"][0]))


def reply(name: str, completion: Mapping[str, Any]) -> RawReply:
    """A written reply; ModelError where its ids or log-probs are not those of one reply."""
    ids, logprobs = completion.get("token_ids"), completion.get("logprobs")
    given = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    if ids is None or not given:
        raise ModelError(
            f"{name} gives no token ids or log-probabilities with its responses. It must be vLLM "
            "0.32 or newer, started without --max-logprobs 0"
        )

    def read() -> RawReply:
        written, logps = _ids(ids), tuple(map(_logprob, given))
        if len(written) != len(logps):
            raise ValueError
        return RawReply(written, logps, finish_of(completion["finish_reason"]))

    return _read(name, "/v1/completions", completion, read)


def tokens(name: str, answer: Any) -> tuple[int, ...]:
    """The ids of ``/tokenize``."""
    return _read(name, "/tokenize", answer, lambda: _ids(answer["tokens"]))


def text(name: str, answer: Any) -> str:
    """The text of ``/detokenize``."""
    return _read(name, "/detokenize", answer, lambda: _text(answer["prompt"]))


def emptied(name: str, answer: Any) -> bool:
    """Whether ``/reset_prefix_cache`` did so: it answers 200 where blocks are held too."""
    return _read(name, "/reset_prefix_cache", answer, lambda: answer.get("success")) is True


def prompt_rows(name: str, sequence: Sequence[int], rows: Any) -> PromptLogProbs:
    """The log-probs of a sequence's tokens, and of those listed beside them."""
    if not isinstance(rows, list) or len(rows) != len(sequence):
        raise ModelError(
            f"{name} gives no log-probabilities of prompt tokens, so it cannot be a teacher. It "
            "must be vLLM's own server (vllm serve MODEL)"
        )

    def read() -> PromptLogProbs:
        listed = [
            {int(key): _logprob(value["logprob"]) for key, value in row.items()} for row in rows[1:]
        ]
        own = tuple(row[token] for token, row in zip(sequence[1:], listed, strict=True))
        ids = tuple(tuple(row) for row in listed)
        return PromptLogProbs(own, ids, tuple(tuple(row.values()) for row in listed))

    return _read(name, "/v1/completions", rows, read)


def _read(name: str, path: str, answer: Any, read: Callable[[], T]) -> T:
    try:
        return read()
    except WRONG_TYPES:
        said = json.dumps(answer, default=str)
        raise ModelError(_foreign(name, path, f"{said:.{SHOWN}}")) from None


def _foreign(name: str, path: str, said: str) -> str:
    return (
        f"{name} does not answer {path} as a vLLM server does ({said}). Check the URL, or start "
        "one there: vllm serve MODEL"
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _ids(values: Iterable[Any]) -> tuple[int, ...]:
    found = tuple(values)
    if not all(_is_whole(value) and value >= 0 for value in found):
        raise TypeError
    return found


def _logprob(value: Any) -> float:
    """A finite number; vLLM writes what is impossible as -9999."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return value
