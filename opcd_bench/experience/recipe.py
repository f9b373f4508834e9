"""How experience is extracted, as values; and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from opcd_bench.config.experience import Rule, Variant
from opcd_bench.errors import ConfigError
from opcd_bench.rollout.engine import Sampling

VARIANTS: tuple[Variant, ...] = get_args(Variant)

Stage = Literal["traces", "reflections", "items", "contexts"]
STAGES: tuple[Stage, ...] = get_args(Stage)


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

    items: int = 30
    seeds: int = 10
    variant: Variant = "memoryless"
    accumulate: Rule = "newest"
    max_context_tokens: int = 1024
    solving: Sampling = field(default_factory=Sampling)
    reflecting: Sampling = field(default_factory=lambda: Sampling(temperature=0.0))
    batch: int = 128
    stream: tuple[str | int, ...] = ()

    def __post_init__(self) -> None:
        counts = {
            "items": self.items,
            "seeds": self.seeds,
            "max_context_tokens": self.max_context_tokens,
            "batch": self.batch,
        }
        if bad := [f"{name} = {value}" for name, value in counts.items() if value < 1]:
            raise ConfigError(f"extraction: {', '.join(bad)} (allowed: 1 or more)")


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
