"""Bytes that a run keeps and passes through, from a model's config alone: no weight is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch

from opcd_bench.config.suite import Suite
from opcd_bench.distillation import masters
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
from opcd_bench.distillation.losses.scheduled import Taid
from opcd_bench.distillation.losses.whole import in_closed_form
from opcd_bench.distillation.method import Method
from opcd_bench.distillation.scoring import head_chunk
from opcd_bench.errors import ModelError
from opcd_bench.models import adapters

When = Literal["always", "writing", "training"]

DRAW_BYTES = 88
"""A written token's logits, in all their copies: float32 ones, and float64 ones for exact draws."""
BLOCK_8BIT = 256


@dataclass(frozen=True)
class Shape:
    """A causal LM by its numbers; ``adapter``: parameters of a LoRA adapter, 0 without."""

    name: str
    parameters: int
    adapter: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    head_rows: int
    window: int

    @property
    def kv_entries(self) -> int:
        """Entries of the keys and values of one token."""
        return 2 * self.layers * self.kv_heads * self.head_dim


@dataclass(frozen=True)
class MemoryPart:
    """Memory of one kind, while ``when``; ``how`` says in words what it is made of.

    ``divided``: several processes of a cell have it together, each a share.
    """

    name: str
    bytes: int
    when: When
    how: str
    divided: bool = False


@dataclass(frozen=True)
class Lengths:
    """The longest prompts in tokens, plain and told, and where the numbers come from."""

    plain: int
    told: int
    source: str


def shape_of(
    name: str,
    config: Any,
    *,
    rank: int | None = None,
    targets: str = "all-linear",
    trust_remote_code: bool = False,
) -> Shape:
    """The shape of the model that a transformers ``config`` describes, built on the meta device.

    ``trust_remote_code`` lets a model's own Python code run. Raises ModelError for a config that
    describes no causal LM.
    """
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    try:
        with torch.device("meta"):
            model = auto.from_config(config, trust_remote_code=trust_remote_code)
    except ValueError as error:
        raise ModelError(f"model {name!r}: {error}") from error
    text = config.get_text_config()
    heads = int(text.num_attention_heads)
    return Shape(
        name=name,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        adapter=0 if rank is None else adapters.parameter_count(model, rank, targets),
        layers=int(text.num_hidden_layers),
        hidden=int(text.hidden_size),
        intermediate=int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size),
        heads=heads,
        kv_heads=int(getattr(text, "num_key_value_heads", None) or heads),
        head_dim=int(getattr(text, "head_dim", None) or text.hidden_size // heads),
        head_rows=int(model.get_output_embeddings().weight.shape[0]),
        window=int(text.max_position_embeddings),
    )


def parts(
    suite: Suite,
    methods: Iterable[Method],
    student: Shape,
    larger: Shape | None,
    lengths: Lengths,
    *,
    on_gpu: bool,
) -> list[MemoryPart]:
    """All that is in memory at some time; activations and logits are upper bounds.

    ``suite`` is one task's. What PyTorch and the GPU keep for themselves is not counted.
    """
    methods = list(methods)
    weight = _weight(suite)
    trained = student.adapter or student.parameters
    # With bf16 the optimiser moves float32 masters of the rounded weights.
    behind = masters.kept(suite) and not student.adapter
    per_trained = 4 if student.adapter or behind else weight
    found = [
        MemoryPart(
            "student", student.parameters * weight, "always", f"{_bits(weight)} weights", True
        )
    ]
    if student.adapter:
        found.append(
            MemoryPart(
                "adapter",
                student.adapter * 4,
                "always",
                "the frozen teacher shares the student's weights",
                True,
            )
        )
    else:
        found.append(
            MemoryPart(
                "frozen teacher", student.parameters * weight, "always", "a second copy", True
            )
        )
    methods = [part for method in methods for part in method.parts]
    if any(method.teacher.weights == "ema" for method in methods):
        average = 0 if weight == 4 else 4 * student.parameters
        how = "a third copy" + (" and its 32-bit average" if average else "")
        found.append(
            MemoryPart("ema teacher", student.parameters * weight + average, "always", how)
        )
    if larger is not None:
        size = 2 if _weight(suite) == 2 or (suite.dtype == "auto" and on_gpu) else 4
        found.append(
            MemoryPart("larger teacher", larger.parameters * size, "always", _bits(size), True)
        )
    if suite.optim == "adamw_8bit":
        moments, how = 2 * (trained + 4 * math.ceil(trained / BLOCK_8BIT)), "two 8-bit moments"
    else:
        moments, how = 2 * trained * per_trained, f"two {_bits(per_trained)} moments"
    found.append(MemoryPart("optimiser", moments, "always", how, True))
    found += _writing(suite, student, larger, lengths, weight)
    if behind:
        found.append(
            MemoryPart("float32 weights", 4 * trained, "always", "what the steps move", True)
        )
    # A CPU writes the masters' gradients where they were in the last step.
    found.append(
        MemoryPart(
            "gradients",
            trained * per_trained,
            "always" if behind and not on_gpu else "training",
            _bits(per_trained),
            True,
        )
    )
    found += _training(suite, methods, student, lengths, on_gpu)
    found += _contexts(suite, methods, student, larger, lengths)
    return found


def _contexts(
    suite: Suite,
    methods: Iterable[Method],
    student: Shape,
    larger: Shape | None,
    lengths: Lengths,
) -> list[MemoryPart]:
    """Keys and values of the context that teachers in this process keep: it is read once."""
    readers = {
        shape.kv_entries
        for method in methods
        if method.needs_teacher and method.teacher.reads == "context"
        for shape in [larger if method.teacher.weights == "larger" else student]
        if shape is not None
    }
    tokens = max(lengths.told - lengths.plain, 0)
    if suite.teacher_engine != "hf" or not readers or not tokens:
        return []
    how = f"keys and values of {tokens} tokens, read once; of several contexts up to 1 GiB more"
    size = max(readers) * tokens * _weight(suite)
    return [MemoryPart("context of the teacher", size, "always", how)]


def _weight(suite: Suite) -> int:
    """Bytes of a weight that the student computes with."""
    return 2 if suite.bf16 or suite.dtype == "bfloat16" else 4


def _bits(size: int) -> str:
    return f"{8 * size}-bit"


def _writing(
    suite: Suite, student: Shape, larger: Shape | None, lengths: Lengths, weight: int
) -> list[MemoryPart]:
    rows = suite.rollout_batch_size
    token = weight * max(shape.kv_entries for shape in (student, larger) if shape is not None)
    plain, told = lengths.plain + suite.max_completion_length, lengths.told - lengths.plain
    return [
        MemoryPart(
            "keys and values",
            rows * plain * token,
            "writing",
            f"{rows} prompts without context and their responses, {plain} tokens each",
        ),
        MemoryPart(
            "keys and values of the context",
            told * token,
            "writing",
            f"{told} tokens of one context, which all rows share",
        ),
        MemoryPart(
            "logits for sampling", rows * student.head_rows * DRAW_BYTES, "writing", f"{rows} rows"
        ),
    ]


def _training(
    suite: Suite,
    methods: list[Method],
    student: Shape,
    lengths: Lengths,
    on_gpu: bool,
) -> list[MemoryPart]:
    length = lengths.plain + suite.max_completion_length
    rows = suite.micro_batch_size
    if suite.micro_batch_tokens is not None:
        rows = max(1, suite.micro_batch_tokens // length)
    saved = "recomputed layer by layer" if suite.gradient_checkpointing else "kept for backward"
    found = [
        MemoryPart(
            "activations",
            rows * activation_bytes(student, length, suite, on_gpu),
            "training",
            f"{rows} responses of {length} tokens with prompt, {saved}",
        )
    ]
    positions = min(head_chunk(student.head_rows), rows * suite.max_completion_length)
    copies = max((head_copies(method) for method in methods), default=0)
    found.append(
        MemoryPart(
            "logits in the loss",
            positions * student.head_rows * 4 * copies,
            "training",
            f"{positions} positions, {copies} 32-bit copies",
        )
    )
    return found


def activation_bytes(shape: Shape, length: int, suite: Suite, on_gpu: bool) -> int:
    """At most, of one sequence: what a decoder of gated layers keeps for its backward pass.

    A layer keeps, a token: both norms' inputs, scaled inputs and outputs; queries, keys and values
    before and after their norms and rotation; the attention's output; four times the width of the
    gated MLP. Norms compute in float32. On a CPU the attention's weights are kept too. All layers
    share the rotation of each position.
    """
    compute = _weight(suite)
    q, k = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    exact, native = 6 * shape.hidden + 3 * (q + k), 2 * (q + k) + 4 * shape.intermediate
    scores = 0 if on_gpu else shape.heads * length
    layer = length * (4 * exact + compute * native + 4 * scores)
    rotation = 2 * 4 * length * shape.head_dim
    if suite.gradient_checkpointing:
        return shape.layers * length * shape.hidden * compute + layer + rotation
    return shape.layers * layer + rotation


def head_copies(method: Method) -> int:
    """Float32 copies of a chunk's logits at the peak, forward and backward, metrics included.

    As measured (both models' logits and a gradient 3.1, likelihood 2.1; a loss that autograd
    differentiates over the whole vocabulary 7 to 16) and rounded up.
    """
    loss = method.loss
    if not method.needs_teacher:
        return 3
    if isinstance(loss, PolicyGradient | Taid):
        return 4
    if not isinstance(loss, Divergence):
        return 17
    return 17 if loss.support == "full" and not in_closed_form(loss) else 4


def peak(found: Iterable[MemoryPart]) -> dict[str, int]:
    """Phase -> bytes: what is always there, and what is there while writing or while training."""
    found = list(found)
    always = sum(part.bytes for part in found if part.when == "always")
    return {
        phase: always + sum(part.bytes for part in found if part.when == phase)
        for phase in ("writing", "training")
    }
