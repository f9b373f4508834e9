"""The workloads: shapes of models, lengths, losses, prompts as text, and the products they need."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

EOS, PAD = 0, 1
"""Token ids; ids from 2 on are words. That EOS is the first id is what forces our lengths."""
PHASES = ("sampling", "teacher", "student", "optimiser")


@dataclass(frozen=True)
class Shape:
    """A Qwen3-shaped model with one matrix for embedding and head."""

    name: str
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int

    @property
    def layer_products(self) -> list[tuple[int, int]]:
        """(in, out) of each matrix of a layer."""
        inner, shared = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = [(self.hidden, inner), (self.hidden, shared), (self.hidden, shared)]
        wide = (self.hidden, self.intermediate)
        return [*attention, (inner, self.hidden), wide, wide, (self.intermediate, self.hidden)]

    @property
    def parameters(self) -> int:
        """Entries of all weights, norms included."""
        matrices = sum(a * b for a, b in self.layer_products)
        norms = 2 * self.hidden + 2 * self.head_dim
        return self.vocabulary * self.hidden + self.layers * (matrices + norms) + self.hidden

    def forward(self, tokens: int) -> int:
        """FLOPs of the layers' matrices on so many tokens."""
        return 2 * tokens * self.layers * sum(a * b for a, b in self.layer_products)

    def attention(self, new: int, before: int = 0) -> int:
        """FLOPs of scores and values where ``new`` tokens attend to ``before`` and themselves."""
        pairs = new * before + new * (new + 1) // 2
        return 4 * pairs * self.layers * self.heads * self.head_dim

    def head(self, tokens: int) -> int:
        """FLOPs of the head on so many tokens."""
        return 2 * tokens * self.hidden * self.vocabulary


@dataclass(frozen=True)
class Workload:
    """An optimiser step's work, the same on both sides; ``target`` is the least ratio wanted.

    ``told``: tokens that the teacher reads before the prompt, the same for every prompt; with them
    TRL's side is its SDFT trainer (the teacher has the student's first weights), without them its
    DistillationTrainer. ``top_k``: reverse KL renormalised on the student's likeliest ids; None:
    over the whole vocabulary. ``checkpointing``: both keep the inputs of the layers alone, and
    compute the rest again for the backward pass.
    """

    name: str
    shape: Shape
    told: int
    prompt: int
    lengths: tuple[int, ...]
    micro_batch: int
    target: float
    top_k: int | None = None
    bf16: bool = False
    checkpointing: bool = False

    @property
    def trainer(self) -> str:
        """TRL's."""
        return "SDFTTrainer" if self.told else "DistillationTrainer"

    @property
    def longest(self) -> int:
        """Tokens of the longest reply."""
        return max(self.lengths)

    @property
    def tolerance(self) -> float:
        """How far the first losses and gradient norms may differ, relative to the larger.

        In bfloat16 by 1 %, of more than six layers by a sixth of that a layer: rounding adds up,
        and the two sides round in different places (at 30 layers both norms are some 5 % from that
        of float32).
        """
        return max(1e-2, self.shape.layers / 600) if self.bf16 else 1e-4

    def prompts(self, step: int) -> list[str]:
        """The prompts of a step (0-based), words divided by spaces."""
        return [self._text(f"{step} {row}", self.prompt) for row in range(len(self.lengths))]

    def context(self) -> str:
        """What the teacher reads first, ending with a space; empty without."""
        return self._text("context", self.told) + " " if self.told else ""

    def _text(self, name: str, words: int) -> str:
        rng = random.Random(f"{self.name} {name}")
        return " ".join(f"w{rng.randrange(2, self.shape.vocabulary)}" for _ in range(words))

    def needed(self, teacher_head: str) -> dict[str, int]:
        """FLOPs by phase that the step cannot do without.

        No padding; a context's own tokens not at all, since a frozen teacher needs them once a run;
        no position after the last that predicts a token. ``teacher_head``: the phase in which a
        side computes the teacher's head.
        """
        shape, total = self.shape, sum(self.lengths)
        own = [self.prompt + length - 1 for length in self.lengths]
        plain = sum(shape.forward(n) + shape.attention(n) for n in own)
        told = sum(shape.forward(n) + shape.attention(n, self.told) for n in own)
        found = {"sampling": plain + shape.head(total), "teacher": told}
        found["student"] = 3 * (plain + shape.head(total))
        found[teacher_head] += shape.head(total)
        return found

    def positions(self) -> dict[str, int]:
        """Token positions by phase that must pass the layers; a shared context once."""
        own = sum(self.prompt + length - 1 for length in self.lengths)
        return {"sampling": own, "teacher": own + self.told, "student": own}

    def peak_products(self) -> list[tuple[int, int, int, int]]:
        """(tokens, in, out, times) of the products of a micro-batch's forward pass."""
        replies = self.lengths[: self.micro_batch]
        tokens = sum(self.prompt + length for length in replies)
        layers = [(tokens, a, b, self.shape.layers) for a, b in self.shape.layer_products]
        return [*layers, (sum(replies), self.shape.hidden, self.shape.vocabulary, 1)]


def geometric_mix(count: int, least: int, most: int) -> tuple[int, ...]:
    """Lengths at even quantiles of a geometric law from ``least`` on, shuffled, cut at ``most``.

    Its scale is such that the longest of them just reaches ``most``.
    """
    scale = (most - least) / math.log(2 * count)
    found = [least - scale * math.log(1 - (i + 0.5) / count) for i in range(count)]
    lengths = [min(most, round(length)) for length in found]
    random.Random(0).shuffle(lengths)
    return tuple(lengths)


SMALL = Shape("5.8 M", 2048, 256, 896, 6, 4, 2, 64)
REAL = Shape("135 M", 49_152, 576, 1536, 30, 9, 3, 64)
SMOKE = Shape("smoke", 512, 64, 128, 2, 4, 2, 16)

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("told_512", SMALL, 512, 64, (64,) * 32, 8, 2.0),
        Workload("told_2048", SMALL, 2048, 64, (64,) * 32, 8, 5.0),
        Workload("told_8192", SMALL, 8192, 64, (64,) * 32, 8, 15.0),
        Workload("plain", SMALL, 0, 64, (64,) * 32, 8, 1.5),
        Workload("plain_bf16", SMALL, 0, 64, (64,) * 32, 8, 2.5, bf16=True),
        Workload("real_shape", REAL, 512, 32, (48,) * 16, 4, 3.0, top_k=256),
        Workload("real_shape_bf16", REAL, 512, 32, (48,) * 16, 4, 3.0, 256, bf16=True),
        Workload(
            "real_shape_checkpointing", REAL, 512, 32, (48,) * 16, 4, 3.0, 256, checkpointing=True
        ),
        Workload("unequal", SMALL, 0, 64, geometric_mix(32, 8, 256), 8, 2.0),
    )
}


def smoke(workload: Workload) -> Workload:
    """The same kind of work in a second: it shows that it runs, and that the losses agree."""
    unequal = len(set(workload.lengths)) > 1
    return replace(
        workload,
        shape=SMOKE,
        told=workload.told // 16,
        prompt=12,
        lengths=geometric_mix(8, 2, 16) if unequal else (6,) * 8,
        micro_batch=4,
        top_k=workload.top_k and 32,
    )
