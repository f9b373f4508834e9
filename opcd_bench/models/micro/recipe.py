"""The recipe of the built-in model: its two sizes, and all else that decides its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from opcd_bench.models.micro import mixture
from opcd_bench.models.micro.mixture import Shares


@dataclass(frozen=True)
class PretrainRecipe:
    """Everything that decides the weights besides the seed, the token count and the world itself.

    The learning rate warms up over ``warmup`` steps, stays, and falls linearly to zero over the
    last ``decay`` of the tokens, so that a longer run shares its beginning with a shorter one.
    ``stages`` is the curriculum: from which chunk of conversations on which shares hold.
    ``bf16``: the products in bfloat16. ``compiled``: by `torch.compile` on a CPU, which takes a
    C++ compiler; both change rounding alone, and together halve the time. ``tokenizer_of``: the
    size whose tokenizer is taken (None: one is trained on the mixture's own text), since a larger
    teacher must have the student's vocabulary.
    """

    vocab_size: int = 1344
    hidden_size: int = 256
    layers: int = 5
    heads: int = 4
    head_dim: int = 64
    intermediate_size: int = 640
    muon: bool = True
    learning_rate: float = 3e-3
    adam_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 60
    decay: float = 0.28
    micro_tokens: int = 3072
    micro_batches: int = 2
    clip: float = 1.0
    bf16: bool = True
    compiled: bool = True
    tokenizer_of: str | None = None
    tokenizer_conversations: int = 30_000
    stages: tuple[tuple[int, Shares], ...] = mixture.STAGES

    def shares_of(self, chunk: int) -> Shares:
        """The mixture that the ``chunk``-th batch of conversations is drawn from."""
        return mixture.shares_of(chunk, self.stages)

    def rate(self, step: int, seen: int, total: int) -> float:
        """The factor on the learning rates at ``step`` (since the optimiser began) and ``seen``."""
        warm = min(1.0, (step + 1) / self.warmup)
        left = (total - seen) / max(1.0, self.decay * total)
        return warm * max(0.0, min(1.0, left))


MICRO = PretrainRecipe(tokenizer_of="micro-small", stages=mixture.SOONER)
SMALL = PretrainRecipe(hidden_size=128, head_dim=32, intermediate_size=352)

SIZES: Mapping[str, PretrainRecipe] = {"micro-small": SMALL, "micro": MICRO}
"""The sizes of the built-in model: some 1 and 4 million parameters."""
TOKENS: Mapping[str, int] = {"micro-small": 70_000_000, "micro": 54_000_000}
"""Tokens that each is pre-trained on."""
