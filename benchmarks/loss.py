"""Time a loss with its metrics and gradient against the head and a whole step it is part of.

The shape is Qwen3-0.6B's. A step is one student and one teacher pass over prompt and response, the
two heads, and the loss; its decoder is timed as one layer, times how many there are, so that it all
fits into few GiB. ``plain`` is the same loss by autograd on whole log-softmaxes, the metrics each
from a log-softmax of its own.

python benchmarks/loss.py [--positions 96] [--prompt 32] [--bf16] [--losses rkl_full,rkl_trunc_sg]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer, Qwen3RotaryEmbedding

from opcd_bench.distillation.losses import diagnostics, expressions
from opcd_bench.distillation.losses.divergence import Divergence, named
from opcd_bench.distillation.losses.functional import TokenLoss
from opcd_bench.models import cpu

HIDDEN, LAYERS, VOCABULARY = 1024, 28, 151_936
LOSSES = {
    "rkl_full": {},
    "fkl_full": {},
    "jsd_b": {"beta": 0.5},
    "skew_f": {"alpha": 0.1},
    "skew_r": {"alpha": 0.1},
    "rkl_trunc_sg": {"k": 256},
    "rkl_tail": {"k": 256},
    "rkl_hybrid": {"k": 256},
    "fkl_tail": {"k": 256},
    "k2_loss": {},
    "pg_k1": {},
    "nll": {},
}


def plain(loss: Divergence, student_NV: Tensor, teacher_NV: Tensor, reply_N: Tensor) -> TokenLoss:
    """The loss over a whole vocabulary by autograd, and the metrics, each read for itself."""
    logp_NV, logq_NV = student_NV.log_softmax(-1), teacher_NV.log_softmax(-1)
    value_N = expressions.surrogate(loss, logp_NV, logq_NV)
    with torch.no_grad():
        expressions.divergence(loss, logp_NV, logq_NV)
        expressions.kl(student_NV.log_softmax(-1), teacher_NV.log_softmax(-1))
        for logits_NV in (student_NV, teacher_NV):
            again_NV = logits_NV.log_softmax(-1)
            -(again_NV.exp() * again_NV).sum(-1)
            logits_NV.topk(20, dim=-1)
    return TokenLoss(value_N, value_N.detach())


def seconds(work: Callable[[], Any], rounds: int) -> float:
    """Median processor time of a call, after one that does not count."""
    found = []
    for _ in range(rounds + 1):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return statistics.median(found[1:])


def backward_of(compute: Callable[[Tensor], Tensor], leaf: Tensor) -> Callable[[], None]:
    """A call of ``compute`` and its backward pass, without what the leaf gathers."""

    def work() -> None:
        leaf.grad = None
        compute(leaf).sum().backward()

    return work


def decoder_seconds(
    positions: int, autocast: Callable[[], Any], rounds: int
) -> tuple[float, float]:
    """One layer over one sequence: forward, and forward with backward."""
    config = Qwen3Config(
        hidden_size=HIDDEN,
        intermediate_size=3072,
        num_hidden_layers=LAYERS,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=VOCABULARY,
    )
    config._attn_implementation = "sdpa"
    layer = Qwen3DecoderLayer(config, 0)
    states_BTH = torch.randn(1, positions, HIDDEN, requires_grad=True)
    rotary = Qwen3RotaryEmbedding(config)(states_BTH, torch.arange(positions)[None])

    def forward(x: Tensor) -> Tensor:
        with autocast():
            out = layer(x, position_embeddings=rotary, attention_mask=None)
        return out if isinstance(out, Tensor) else out[0]

    def read() -> None:
        with torch.no_grad():
            forward(states_BTH)

    return seconds(read, rounds), seconds(backward_of(forward, states_BTH), rounds)


def main() -> None:
    """Print seconds and shares of each loss, beside the plain way, in one process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--positions", type=int, default=96, help="response tokens of a chunk")
    parser.add_argument("--prompt", type=int, default=32, help="prompt tokens before them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true", help="products under bfloat16 autocast")
    parser.add_argument("--losses", default=",".join(LOSSES))
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    torch.manual_seed(0)

    def autocast() -> Any:
        return torch.autocast("cpu", dtype=torch.bfloat16) if words.bf16 else nullcontext()

    n = words.positions
    head = torch.nn.Linear(HIDDEN, VOCABULARY, bias=False)
    states_NH = torch.randn(n, HIDDEN, requires_grad=True)

    def logits(x: Tensor) -> Tensor:
        with autocast():
            return head(x).float()

    def read() -> None:
        with torch.no_grad():
            logits(states_NH)

    with cpu.quick_products():
        layer_read, layer_step = decoder_seconds(n + words.prompt, autocast, words.rounds)
        head_read = seconds(read, words.rounds)
        head_step = seconds(backward_of(logits, states_NH), words.rounds)
    head.weight.grad = states_NH.grad = None
    products = LAYERS * (layer_read + layer_step) + head_read + head_step
    print(
        f"{n} + {words.prompt} positions, V {VOCABULARY:,}, {'bf16' if words.bf16 else 'float32'}, "
        f"{words.threads} thread(s), processor time"
    )
    print(
        f"decoder {LAYERS * (layer_read + layer_step):.2f} s, heads {head_read + head_step:.2f} s"
    )
    student_NV = (6 * torch.randn(n, VOCABULARY)).requires_grad_(True)
    teacher_NV = student_NV.detach() + torch.randn(n, VOCABULARY)
    reply_N = student_NV.detach().argmax(-1)
    print(f"{'loss':14}{'s':>8}{'ns/logit':>10}{'of heads':>10}{'of step':>9}{'plain/it':>10}")
    for name in words.losses.split(","):
        loss = named(name, **LOSSES[name])

        def ours(x: Tensor, loss: Divergence = loss) -> Tensor:
            if loss.teacher_needs == "none":
                return diagnostics.measured_alone(loss, x, reply_N).loss.surrogate
            return diagnostics.measured(loss, x, teacher_NV, reply_N).loss.surrogate

        def theirs(x: Tensor, loss: Divergence = loss) -> Tensor:
            return plain(loss, x, teacher_NV, reply_N).surrogate

        took = seconds(backward_of(ours, student_NV), words.rounds)
        ratio = ""
        if loss.support == "full":
            ratio = f"{seconds(backward_of(theirs, student_NV), words.rounds) / took:.1f}"
        print(
            f"{name:14}{took:8.3f}{took / student_NV.numel() * 1e9:10.1f}"
            f"{took / (head_read + head_step):10.1%}{took / products:9.1%}{ratio:>10}",
            flush=True,
        )


if __name__ == "__main__":
    main()
