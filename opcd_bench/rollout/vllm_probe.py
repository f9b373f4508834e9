"""Whether a vLLM computes what the model does, with its newest weights, on shared prefixes too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from opcd_bench.errors import LEAVE_OUT, Diverged, ModelError
from opcd_bench.models import adapters
from opcd_bench.models.loaded import LoadedModel, PromptFormat

_PROBE = 16
"""Tokens of the sequence on which held weights are compared with the trainer's."""
_SHARED, _OWN, _SEQUENCES = 80, 8, 8
"""Tokens that the sequences of the long probe share (five blocks of vLLM's prefix cache) and that
each has for itself, and how many there are."""
_WINDOW = 64
"""Last tokens of a prompt that are probed."""


ANY_PRECISION = 0.25
"""Largest difference (nats) that rounding makes between two engines in bfloat16."""
_FLOAT32 = 1e-3
"""The same in float32; less than this no policy is another."""
_CLEAR = 4.0
"""A change of weights is clear where it moves log-probs by so many times the noise."""


class Scored(Protocol):
    """The log-probs (temperature 1) of a sequence's tokens but the first."""

    @property
    def own(self) -> tuple[float, ...]:
        """One a token."""
        ...


class Scorer(Protocol):
    """As much of a vLLM as is probed."""

    @property
    def name(self) -> str:
        """As messages call it."""
        ...

    def score(self, sequences: Sequence[tuple[int, ...]], top: int) -> Sequence[Scored]:
        """The log-probs of each sequence."""
        ...


def probe_gap(backend: Scorer, loaded: LoadedModel) -> float:
    """Largest difference in log-prob (nats) between a backend and a model on a short sequence.

    The self-test that student = teacher weights give one distribution.
    """
    ids = _short(loaded)
    return _gap(_own_logps(loaded, ids), backend.score([ids], 0)[0].own)


def _short(loaded: LoadedModel) -> tuple[int, ...]:
    return tuple(range(min(_PROBE, loaded.vocab_size)))


def order_gap(backend: Scorer, loaded: LoadedModel) -> float:
    """Largest difference in log-prob (nats) on sequences that share blocks, in either order.

    What a prefix cache got wrong shows here: a sequence finds the blocks of those before it.
    """
    sequences = shared_prefixes(loaded)
    owns = [_own_logps(loaded, sequence) for sequence in sequences]
    told = _in_both_orders(backend, sequences)
    return max(
        _gap(own, one) for told_once in told for own, one in zip(owns, told_once, strict=True)
    )


def order_difference(backend: Scorer, reader: PromptFormat) -> float:
    """As `order_gap`, of a backend whose weights are not here: of one order and the other."""
    one, other = _in_both_orders(backend, shared_prefixes(reader))
    return max(_gap(torch.tensor(a), b) for a, b in zip(one, other, strict=True))


def shared_prefixes(reader: PromptFormat) -> list[tuple[int, ...]]:
    """Sequences that begin alike and end differently, within the model's window."""
    room = reader.max_length - 1
    count = reader.vocab_size
    shared = [(7 * place + 3) % count for place in range(min(_SHARED, max(room - _OWN, 0)))]
    ends = [
        [(11 * place + 13 * number + 5) % count for place in range(min(_OWN, room))]
        for number in range(_SEQUENCES)
    ]
    return [(*shared, *end) for end in ends]


def _in_both_orders(
    backend: Scorer, sequences: Sequence[tuple[int, ...]]
) -> tuple[list[tuple[float, ...]], list[tuple[float, ...]]]:
    forth = [one.own for one in backend.score(sequences, 0)]
    back = [one.own for one in backend.score(sequences[::-1], 0)]
    return forth, back[::-1]


def _own_logps(loaded: LoadedModel, ids: Sequence[int]) -> torch.Tensor:
    """The log-probs that the model in this process gives each token of a sequence but the first."""
    with torch.no_grad(), adapters.active(loaded), _evaluating(loaded):
        at = torch.tensor([list(ids)], device=loaded.model.device)
        logits_TV: torch.Tensor = loaded.model(input_ids=at, use_cache=False).logits[0].float()
        return logits_TV.log_softmax(-1)[:-1].gather(-1, at[0, 1:, None])[:, 0].cpu()


def _gap(own_T: torch.Tensor, told: Sequence[float]) -> float:
    return float((own_T - torch.tensor(told)).abs().max())


def _tolerance(loaded: LoadedModel) -> float:
    """Largest difference (nats) that rounding makes between two engines."""
    return _FLOAT32 if loaded.dtype in (torch.float32, torch.float64) else ANY_PRECISION


TAKES_NO_WEIGHTS = (
    "The server must accept new weights while it runs, and one with tied embeddings on a CPU "
    "does not. Use vLLM in this process (engine = 'vllm' without vllm_url), or engine = 'hf'"
)


def verify(backend: Scorer, loaded: LoadedModel, way_out: str = TAKES_NO_WEIGHTS) -> None:
    """Raise ModelError unless a backend computes what the trainer does with the same weights.

    Diverged where the trainer's own log-probs are not finite. ``way_out``: what the message says
    to do.
    """
    if not _own_logps(loaded, _short(loaded)).isfinite().all():
        raise Diverged(
            f"model {loaded.name!r} gives log-probabilities that are not finite, so its weights "
            f"have diverged; {LEAVE_OUT}"
        )
    gap, most = probe_gap(backend, loaded), _tolerance(loaded)
    if not gap <= most:
        raise ModelError(
            f"{backend.name} does not have the weights of {loaded.name!r}: its log-probabilities "
            f"differ by {gap:.3g} nats in {str(loaded.dtype).removeprefix('torch.')} (allowed: "
            f"{most:g}). {way_out}"
        )


def verify_order(backend: Scorer, loaded: LoadedModel | None, reader: PromptFormat) -> None:
    """Raise ModelError where log-probs depend on which requests came before.

    ``loaded``: the model whose weights the backend has, where they are in this process.
    """
    if loaded is None:
        gap, most = order_difference(backend, reader), ANY_PRECISION
    else:
        gap, most = order_gap(backend, loaded), _tolerance(loaded)
    if not gap <= most:
        raise ModelError(
            f"{backend.name} computes log-probabilities that depend on the requests before: of "
            f"sequences that begin alike they differ by {gap:.3g} nats (allowed: {most:g}), so its "
            "prefix cache cannot be trusted. Turn it off: vllm serve with "
            "--no-enable-prefix-caching, or in this process vllm_options = "
            "{enable_prefix_caching = false}; or use teacher_engine = 'hf'"
        )


@dataclass(frozen=True)
class Look:
    """Sequences, and their tokens' log-probs by a model and by the backend that has its weights.

    ``rounded``: of an adapter on 16-bit weights, which is merged into them and may round away.
    ``noise`` (nats): how far apart the backend's log-probs are when it is asked twice.
    """

    rounded: bool
    sequences: tuple[tuple[int, ...], ...]
    own: tuple[torch.Tensor, ...]
    served: tuple[torch.Tensor, ...]
    noise: float = 0.0


def look(
    backend: Scorer,
    loaded: LoadedModel,
    prompts: Sequence[tuple[int, ...]],
    *,
    twice: bool = False,
) -> Look:
    """At the short sequence of `probe_gap`, and at the ends of a batch's first and last prompt.

    ``twice``: to know its noise, for `unchanged`.
    """
    room = min(_WINDOW, loaded.max_length - 1)
    ends = dict.fromkeys(prompt[-room:] for prompt in (*prompts[:1], *prompts[-1:]))
    seen = _looked(backend, loaded, (_short(loaded), *(one for one in ends if len(one) > 1)))
    return replace(seen, noise=_moved(backend, seen)) if twice else seen


def _moved(backend: Scorer, seen: Look) -> float:
    """Largest difference (nats) between what a backend answers now and what it did."""
    return float(_distance(_served(backend, seen.sequences), seen.served).max())


def _served(backend: Scorer, sequences: Sequence[tuple[int, ...]]) -> tuple[torch.Tensor, ...]:
    """Each sequence by itself: sequences that are computed together round otherwise on a GPU."""
    return tuple(torch.tensor(backend.score([one], 0)[0].own) for one in sequences)


def _looked(backend: Scorer, loaded: LoadedModel, sequences: tuple[tuple[int, ...], ...]) -> Look:
    served = _served(backend, sequences)
    rounded = loaded.adapter is not None and loaded.adapter.on and loaded.dtype.itemsize < 4
    return Look(rounded, sequences, tuple(_own_logps(loaded, one) for one in sequences), served)


def unchanged(backend: Scorer, seen: Look) -> bool:
    """Whether a backend answers as it did, but for its noise: nobody put other weights into it."""
    return _moved(backend, seen) <= seen.noise


def verify_newest(backend: Scorer, loaded: LoadedModel, before: Look) -> None:
    """Raise ModelError for a backend that still has the weights that ``before`` looked at.

    A model that moved cannot have left every log-prob as it was; and where it moved clearly, what
    is served is nearer to it than to the one before. What was rounded is not judged.
    """
    now = _looked(backend, loaded, before.sequences)
    if now.rounded or before.rounded:
        return
    if not _distance(now.served, before.served).any():
        stale = _distance(now.own, before.own).max() > _FLOAT32
    else:
        noise = _distance(before.served, before.own).mean()
        moved = _distance(now.own, before.own).mean()
        nearer = _distance(now.served, before.own).mean() < _distance(now.served, now.own).mean()
        stale = (moved > max(_FLOAT32, _CLEAR * float(noise))) & nearer
    if bool(stale):
        raise ModelError(
            f"{backend.name} does not have the weights of {loaded.name!r}, but those that it was "
            "given before: its log-probabilities of the last prompts did not move with the "
            f"model's. {TAKES_NO_WEIGHTS}"
        )


def _distance(some: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> torch.Tensor:
    """Absolute differences of log-probs, of all sequences in a row."""
    return (torch.cat(tuple(some)) - torch.cat(tuple(others))).abs()


@contextlib.contextmanager
def _evaluating(loaded: LoadedModel) -> Iterator[None]:
    module: torch.nn.Module = loaded.model
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
