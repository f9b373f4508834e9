"""Pre-training of the built-in model: from a seed to a folder that ``transformers`` loads."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opcd_bench.errors import StoreError
from opcd_bench.models.micro import batches, mixture
from opcd_bench.models.micro import tokenizer as micro_tokenizer
from opcd_bench.store.jsonl import read_object

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

RECIPE = "recipe.json"


@dataclass(frozen=True)
class PretrainRecipe:
    """Everything that decides the weights besides the seed, the token count and the world itself.

    The learning rate warms up over ``warmup`` steps, stays, and falls linearly to zero over the
    last ``decay`` of the tokens, so that a longer run shares its beginning with a shorter one.
    """

    vocab_size: int = 1024
    hidden_size: int = 256
    layers: int = 5
    heads: int = 4
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
    tokenizer_conversations: int = 30_000
    shares: Mapping[str, float] = field(default_factory=lambda: dict(mixture.SHARES))
    later_shares: Mapping[str, float] = field(default_factory=lambda: dict(mixture.LATER_SHARES))
    later_chunk: int = mixture.LATER_CHUNK
    final_shares: Mapping[str, float] = field(default_factory=lambda: dict(mixture.FINAL_SHARES))
    final_chunk: int = mixture.FINAL_CHUNK

    def shares_of(self, chunk: int) -> Mapping[str, float]:
        """The mixture that the ``chunk``-th batch of conversations is drawn from."""
        if chunk < self.later_chunk:
            return self.shares
        return self.later_shares if chunk < self.final_chunk else self.final_shares

    def rate(self, step: int, seen: int, total: int) -> float:
        """The factor on the learning rates at ``step`` after ``seen`` of ``total`` tokens."""
        warm = min(1.0, (step + 1) / self.warmup)
        left = (total - seen) / max(1.0, self.decay * total)
        return warm * max(0.0, min(1.0, left))


def refuse_foreign(out: Path) -> None:
    """Raise StoreError where a folder holds something else than such a pre-training."""
    with _writing(out):
        is_folder, there = out.is_dir(), out.exists() or out.is_symlink()
        names = sorted(path.name for path in out.iterdir()) if is_folder else []
    if there and not is_folder:
        raise StoreError(f"{out}: is no folder. Give another one with --out")
    own = out / RECIPE
    ours = own.is_file() and {"seed", "tokens"} <= read_object(own).keys()
    if names and not ours:
        raise StoreError(
            f"{out}: holds something else than a pre-training of ours ({', '.join(names[:3])}), "
            "and nothing is written into it. Give another folder with --out"
        )


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turn an OSError into a StoreError that names the option of the folder."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{out}: cannot be written ({error.strerror}). Give another folder with --out"
        ) from None


def make_tokenizer(out: Path, recipe: PretrainRecipe, seed: int) -> PreTrainedTokenizerBase:
    """The tokenizer of ``out``, trained on the mixture's own text and saved there if absent."""
    from transformers import AutoTokenizer

    if not (out / "tokenizer.json").exists():
        drawn = mixture.conversations(seed, -1, recipe.tokenizer_conversations, recipe.shares)
        texts = [m["content"] for c in drawn for m in c.messages] + [c.reply for c in drawn]
        micro_tokenizer.train(texts, recipe.vocab_size).save_pretrained(out)
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(out)
    return loaded


def make_model(
    recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerBase, seed: int
) -> Qwen3ForCausalLM:
    """Fresh weights for ``seed``."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=recipe.vocab_size,
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        intermediate_size=recipe.intermediate_size,
        num_attention_heads=recipe.heads,
        num_key_value_heads=2,
        head_dim=64,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)


def make_optimizers(model: torch.nn.Module, recipe: PretrainRecipe) -> list[torch.optim.Optimizer]:
    """Muon on the matrices of the blocks (if the recipe says so), AdamW on everything else."""
    import torch

    blocks, matrices, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif "layers." in name and recipe.muon:
            blocks.append(parameter)
        else:
            matrices.append(parameter)
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": recipe.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=recipe.adam_rate,
            betas=(0.9, 0.95),
            fused=True,
        )
    ]
    # Two of them, so that two threads can step them at the same time.
    for half in (blocks[::2], blocks[1::2]) if blocks else ():
        made.append(
            torch.optim.Muon(
                half,
                lr=recipe.learning_rate,
                weight_decay=recipe.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return made


def reply_states(
    model: Qwen3ForCausalLM, ids_BT: torch.Tensor, mask_BT: torch.Tensor
) -> torch.Tensor:
    """Final hidden states ``(positions in the mask, hidden)``; the last MLP runs on these alone."""
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
    kept = (hidden + mixed)[mask_BT]
    states: torch.Tensor = trunk.norm(kept + last.mlp(last.post_attention_layernorm(kept)))
    return states


def loss_sum(model: Qwen3ForCausalLM, batch: batches.Batch, device: torch.device) -> torch.Tensor:
    """Summed negative log-likelihood of the reply tokens; only they pass the LM head."""
    import torch

    ids, mask = batch.ids_BT.to(device), batch.mask_BT.to(device)
    # Autocast's cache is shared by all threads, and each weight is used once: leave it off.
    with torch.autocast(device.type, torch.bfloat16, cache_enabled=False):
        logits = model.lm_head(reply_states(model, ids[:, :-1], mask[:, 1:]))
    return torch.nn.functional.cross_entropy(
        logits.float(), ids[:, 1:][mask[:, 1:]], reduction="sum"
    )


def gradients(
    model: Qwen3ForCausalLM, group: Sequence[batches.Batch], device: torch.device, pool: Executor
) -> tuple[float, list[torch.Tensor]]:
    """The mean loss over the reply tokens of a step, and its gradient for every parameter.

    Each half of a micro-batch is one thread's work (with one intra-op thread each, two cores do
    nearly twice the work of one; OpenMP's barriers do not); sums are taken in order.
    """
    import torch

    parameters = list(model.parameters())
    count = sum(int(batch.mask_BT.sum()) for batch in group)

    def work(batch: batches.Batch) -> tuple[float, tuple[torch.Tensor, ...]]:
        loss = loss_sum(model, batch, device) / count
        return loss.item(), torch.autograd.grad(loss, parameters)

    # Halves of a micro-batch each: the finer the work, the less one thread waits for the other.
    done = list(pool.map(work, [half for batch in group for half in batch.halves()]))
    total = [grad.clone() for grad in done[0][1]]
    for _, more in done[1:]:
        torch._foreach_add_(total, list(more))
    return sum(loss for loss, _ in done), total


def _save(path: Path, state: Mapping[str, Any]) -> None:
    import torch

    partial = path.with_suffix(".partial")
    torch.save(dict(state), partial)
    os.replace(partial, path)


def pretrain(
    out: Path,
    seed: int = 0,
    tokens: int = 33_000_000,
    resume: bool = True,
    device: str = "auto",
    recipe: PretrainRecipe | None = None,
    checkpoint_every: int = 1_500_000,
    evaluate_every: int = 3_000_000,
    stop_after: int | None = None,
) -> Path:
    """Pre-train into ``out`` and return the folder ``out / "model"`` that transformers loads.

    ``tokens`` counts all tokens that are not padding. ``out / "checkpoint.pt"`` is written whole
    every ``checkpoint_every`` tokens and read back where ``resume`` is true: the data order goes on
    where it stopped. ``out / "log.jsonl"`` holds loss and rates, and told / plain accuracy on
    held-out rules every ``evaluate_every`` tokens. ``stop_after`` ends early after that many steps,
    leaving a checkpoint (tests; a long run in pieces).
    """
    import torch

    from opcd_bench.models import cpu, loading
    from opcd_bench.models.micro import quick

    recipe = recipe or PretrainRecipe()
    where = loading.device_of(device)
    refuse_foreign(out)
    # First: it is what says that the folder is ours, and whether it can be written.
    told = json.dumps({"seed": seed, "tokens": tokens, **asdict(recipe)}, indent=1) + "\n"
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / RECIPE).write_text(told)
    tokenizer = make_tokenizer(out / "model", recipe, seed)
    model = make_model(recipe, tokenizer, seed)
    torch.nn.Module.to(model, where)
    optimizers = make_optimizers(model, recipe)
    bases = [[float(group["lr"]) for group in o.param_groups] for o in optimizers]
    at: dict[str, Any] = {"step": 0, "seen": 0, "chunk": 0, "within": 0, "seconds": 0.0}
    checkpoint = out / "checkpoint.pt"
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location=where, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        at = state["at"]
    log = (out / "log.jsonl").open("a", encoding="utf-8")

    def write(row: Mapping[str, Any]) -> None:
        log.write(json.dumps(row) + "\n")
        log.flush()

    def save() -> None:
        saved = [optimizer.state_dict() for optimizer in optimizers]
        _save(checkpoint, {"model": model.state_dict(), "optimizers": saved, "at": at})
        model.save_pretrained(out / "model")

    order = batches.steps(
        tokenizer,
        seed,
        shares=recipe.shares_of,
        micro_tokens=recipe.micro_tokens,
        micro_batches=recipe.micro_batches,
        chunk=at["chunk"],
        first_step=at["within"],
    )
    if where.type == "cpu":
        torch.set_num_threads(1)
    pool = ThreadPoolExecutor(os.cpu_count() if where.type == "cpu" else 1)
    started, before, first = time.perf_counter(), at["seconds"], at["step"]
    running: list[float] = []
    model.train()
    cpu.set_causal(model, where.type == "cpu")
    while at["seen"] < tokens and (stop_after is None or at["step"] - first < stop_after):
        chunk, within, group = next(order)
        factor = recipe.rate(at["step"], at["seen"], tokens)
        for optimizer, rates in zip(optimizers, bases, strict=True):
            for parameters, rate in zip(optimizer.param_groups, rates, strict=True):
                parameters["lr"] = rate * factor
        total, grads = gradients(model, group, where, pool)
        for parameter, grad in zip(model.parameters(), grads, strict=True):
            parameter.grad = grad
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        list(pool.map(lambda optimizer: optimizer.step(), optimizers))
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        if not math.isfinite(total):
            raise FloatingPointError(f"the loss at step {at['step']} is {total}")
        running.append(total)
        previous = at["seen"]
        at = {
            "step": at["step"] + 1,
            "seen": previous + sum(batch.tokens for batch in group),
            "chunk": chunk,
            "within": within + 1,
            "seconds": before + time.perf_counter() - started,
        }
        if at["step"] % 50 == 0:
            row = {"loss": sum(running) / len(running), "norm": float(norm), "rate": factor}
            write({**at, **row})
            running.clear()
        if at["seen"] // evaluate_every > previous // evaluate_every:
            shares = recipe.shares_of(chunk)
            write({"seen": at["seen"], **quick.accuracies(model, tokenizer, shares)})
            model.train()
            cpu.set_causal(model, where.type == "cpu")
        if at["seen"] // checkpoint_every > previous // checkpoint_every:
            save()
    save()
    pool.shutdown()
    log.close()
    return out / "model"
