"""How experience is extracted, as values; and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from opcd_bench.config import experience as config
from opcd_bench.config.experience import Rule, Variant
from opcd_bench.rollout.engine import Sampling

VARIANTS: tuple[Variant, ...] = get_args(Variant)


@dataclass(frozen=True)
class Recipe:
    """How experience is extracted.

    ``items`` attempts of each of ``seeds`` sampling seeds. ``variant``: ``memoryless`` reflects on
    each attempt alone, ``with-previous`` also reads the lessons kept so far (so one attempt after
    the other), ``raw-traces`` tells the attempts themselves (the control). ``accumulate`` and
    ``max_context_tokens`` (tokens of the whole context) say what is kept. ``solving`` and
    ``reflecting`` are how replies are drawn; ``batch`` is how many are written at a time.
    ``stream`` are further names of all noise: a round of a chain has its own attempts.
    """

    items: int
    seeds: int
    variant: Variant
    accumulate: Rule
    max_context_tokens: int
    solving: Sampling
    reflecting: Sampling
    batch: int
    stream: tuple[str | int, ...] = ()

    @classmethod
    def of(
        cls,
        settings: config.Extraction,
        *,
        solving: Sampling,
        reflecting: Sampling,
        batch: int,
        stream: tuple[str | int, ...] = (),
    ) -> Recipe:
        """The recipe of declared settings, which have refused what cannot be used."""
        return cls(
            items=settings.items,
            seeds=settings.seeds,
            variant=settings.variant,
            accumulate=settings.accumulate,
            max_context_tokens=settings.max_context_tokens,
            solving=solving,
            reflecting=reflecting,
            batch=batch,
            stream=stream,
        )


@dataclass(frozen=True)
class Extracted:
    """What became of one seed: its context file (None: no item), and the counts on the way.

    ``statuses``: `reflect.Status` -> attempts. ``items`` were read, ``kept`` are told, in
    ``tokens`` tokens.
    """

    seed: int
    path: Path | None
    statuses: dict[str, int]
    items: int
    kept: int
    tokens: int
