"""The gradient of an optimiser step of pre-training, computed by two threads at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import cache
from typing import TYPE_CHECKING

from opcd_bench.models.micro import batches

if TYPE_CHECKING:
    import torch
    from transformers import Qwen3ForCausalLM


def reply_states(model: Qwen3ForCausalLM, ids_BT: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Final hidden states ``(kept, hidden)``; the last MLP runs on these positions alone.

    ``kept`` are places in the flattened ``ids_BT``.
    """
    import torch

    trunk = model.model
    hidden = trunk.embed_tokens(ids_BT)
    positions = torch.arange(ids_BT.shape[1], device=ids_BT.device)[None]
    shared = {
        "position_embeddings": trunk.rotary_emb(hidden, positions),
        "attention_mask": None,
        "position_ids": positions,
    }
    for block in trunk.layers[:-1]:
        hidden = block(hidden, **shared)
    last = trunk.layers[-1]
    mixed, _ = last.self_attn(hidden_states=last.input_layernorm(hidden), **shared)
    last_states = (hidden + mixed).flatten(0, 1)[kept]
    states: torch.Tensor = trunk.norm(
        last_states + last.mlp(last.post_attention_layernorm(last_states))
    )
    return states


def reply_loss(
    model: Qwen3ForCausalLM,
    ids_BT: torch.Tensor,
    kept: torch.Tensor,
    next_ids: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """The weighted sum of ``-log p(next_ids)`` at the places ``kept`` of the flattened ids."""
    import torch

    logits = model.lm_head(reply_states(model, ids_BT, kept))
    each = torch.nn.functional.cross_entropy(logits.float(), next_ids, reduction="none")
    return (each * weights).sum()


@cache
def _compiled() -> Callable[..., torch.Tensor]:
    import torch
    from torch.fx.experimental import _config as shapes

    # Two lengths that are equal in the first batch are not taken for one: that compiles again.
    shapes.use_duck_shape = False
    loss: Callable[..., torch.Tensor] = torch.compile(reply_loss, dynamic=True)
    return loss


def loss_sum(
    model: Qwen3ForCausalLM,
    batch: batches.Batch,
    device: torch.device,
    bf16: bool = True,
    compiled: bool = False,
) -> torch.Tensor:
    """Summed and weighted negative log-likelihood of the reply tokens; they alone pass the head.

    ``bf16`` is a GPU's autocast; a CPU rounds within its products (`cpu.rounded_products`).
    """
    import torch

    ids, weight = batch.ids_BT.to(device), batch.weight_BT[:, 1:].flatten().to(device)
    kept = weight.nonzero().squeeze(1)
    # Filled up with positions of weight 0 (the first of a row is in its prompt): see batches.STEP.
    kept = torch.nn.functional.pad(kept, (0, batches.padded(len(kept), 64) - len(kept)))
    next_ids = ids[:, 1:].flatten()[kept]
    loss = _compiled() if compiled else reply_loss
    cast = bf16 and device.type != "cpu"
    # Autocast's cache is shared by all threads, and each weight is used once: leave it off.
    with torch.autocast(device.type, torch.bfloat16, enabled=cast, cache_enabled=False):
        return loss(model, ids[:, :-1].contiguous(), kept, next_ids, weight[kept])


def gradients(
    model: Qwen3ForCausalLM,
    group: Sequence[batches.Batch],
    device: torch.device,
    pool: Executor,
    bf16: bool = True,
    compiled: bool = False,
) -> tuple[float, list[torch.Tensor]]:
    """The weighted mean loss of a step's reply tokens, and its gradient for every parameter.

    Each half of a micro-batch is one thread's work (with one intra-op thread each, two cores do
    nearly twice the work of one; OpenMP's barriers do not); sums are taken in order.
    """
    import torch

    parameters = list(model.parameters())
    count = sum(float(batch.weight_BT.sum()) for batch in group)

    def work(batch: batches.Batch) -> tuple[float, tuple[torch.Tensor, ...]]:
        loss = loss_sum(model, batch, device, bf16, compiled) / count
        return loss.item(), torch.autograd.grad(loss, parameters)

    # Halves of a micro-batch each: the finer the work, the less one thread waits for the other.
    done = list(pool.map(work, [half for batch in group for half in batch.halves()]))
    total = [grad.clone() for grad in done[0][1]]
    for _, more in done[1:]:
        torch._foreach_add_(total, list(more))
    return sum(loss for loss, _ in done), total
