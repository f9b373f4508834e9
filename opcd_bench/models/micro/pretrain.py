"""Pre-training of the built-in model: from a seed to a folder that ``transformers`` loads."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opcd_bench.errors import StoreError
from opcd_bench.models.micro import batches
from opcd_bench.models.micro.build import make_model, make_optimizers, make_tokenizer
from opcd_bench.models.micro.gradient import gradients
from opcd_bench.models.micro.recipe import MICRO, TOKENS, PretrainRecipe
from opcd_bench.store.jsonl import read_object

if TYPE_CHECKING:
    import torch
    from transformers import Qwen3ForCausalLM

RECIPE, CHECKPOINT, PLACE = "recipe.json", "checkpoint.pt", "place.json"


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


def _save(path: Path, state: Mapping[str, Any]) -> None:
    import torch

    partial = path.with_suffix(".partial")
    torch.save(dict(state), partial)
    os.replace(partial, path)


@dataclass(frozen=True)
class Place:
    """Where a pre-training is: what has been seen, and the step that comes next.

    ``since`` is the step at which its optimiser began: 0, or where weights alone were gone on from.
    """

    step: int = 0
    seen: int = 0
    chunk: int = 0
    within: int = 0
    seconds: float = 0.0
    since: int = 0


def _resumed(
    out: Path, model: Qwen3ForCausalLM, optimizers: list[torch.optim.Optimizer], where: torch.device
) -> Place:
    """Load what is there: the checkpoint, or the weights alone with a fresh optimiser."""
    import torch
    from safetensors.torch import load_model

    if (out / CHECKPOINT).exists():
        state = torch.load(out / CHECKPOINT, map_location=where, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        return Place(**state["at"])
    if (out / PLACE).exists():
        load_model(model, str(out / "model" / "model.safetensors"))
        at = Place(**read_object(out / PLACE))
        return Place(**{**asdict(at), "since": at.step})
    return Place()


class _Log:
    """``log.jsonl``: a row at a time, each in the file at once."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


@cache
def _has_compiler() -> bool:
    """Whether torch finds a C++ compiler here; where there is none, that is said."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        print("no C++ compiler is here: pre-training goes on without one, at half the pace")
        return False
    return True


def _step(
    model: Qwen3ForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    group: list[batches.Batch],
    recipe: PretrainRecipe,
    where: torch.device,
    pool: ThreadPoolExecutor,
) -> tuple[float, float]:
    """One optimiser step; returns the loss and the gradient's norm before clipping."""
    import torch

    from opcd_bench.models import cpu

    compiled = recipe.compiled and where.type == "cpu" and _has_compiler()
    with cpu.rounded_products(recipe.bf16 and where.type == "cpu"):
        total, grads = gradients(model, group, where, pool, recipe.bf16, compiled)
    if not math.isfinite(total):
        raise FloatingPointError(f"the loss is {total}")
    for parameter, grad in zip(model.parameters(), grads, strict=True):
        parameter.grad = grad
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    list(pool.map(lambda optimizer: optimizer.step(), optimizers))
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    return total, float(norm)


def pretrain(
    out: Path,
    seed: int = 0,
    tokens: int = TOKENS["micro"],
    resume: bool = True,
    device: str = "auto",
    recipe: PretrainRecipe = MICRO,
    checkpoint_every: int = 500_000,
    evaluate_every: int = 8_000_000,
    stop_after: int | None = None,
) -> Path:
    """Pre-train into ``out`` and return the folder ``out / "model"`` that transformers loads.

    ``tokens`` counts all tokens that are not padding. ``checkpoint.pt`` is written whole every
    ``checkpoint_every`` tokens; where ``resume`` is true, training goes on from it byte for byte.
    Without it, ``place.json`` and the weights in ``model`` are enough to go on with the same data
    and a fresh optimiser, warmed up again. ``log.jsonl`` holds loss and rates, and the accuracies
    of `quick` every ``evaluate_every`` tokens. ``stop_after`` ends early after that many steps,
    leaving a checkpoint (tests; a long run in pieces).
    """
    import torch

    from opcd_bench.models import cpu, loading
    from opcd_bench.models.micro import quick

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
    at = _resumed(out, model, optimizers, where) if resume else Place()
    log = _Log(out / "log.jsonl")
    if at.since:
        log.write({"step": at.step, "seen": at.seen, "gone on from": "weights alone"})

    def save() -> None:
        saved = [optimizer.state_dict() for optimizer in optimizers]
        _save(
            out / CHECKPOINT, {"model": model.state_dict(), "optimizers": saved, "at": asdict(at)}
        )
        model.save_pretrained(out / "model")
        (out / PLACE).write_text(json.dumps(asdict(at)) + "\n", encoding="utf-8")

    order = batches.steps(
        tokenizer,
        seed,
        shares=recipe.shares_of,
        micro_tokens=recipe.micro_tokens,
        micro_batches=recipe.micro_batches,
        chunk=at.chunk,
        first_step=at.within,
    )
    if where.type == "cpu":
        torch.set_num_threads(1)
    pool = ThreadPoolExecutor(os.cpu_count() if where.type == "cpu" else 1)
    started, before, first = time.perf_counter(), at.seconds, at.step
    running: list[float] = []
    model.train()
    cpu.set_causal(model, where.type == "cpu")
    while at.seen < tokens and (stop_after is None or at.step - first < stop_after):
        chunk, within, group = next(order)
        factor = recipe.rate(at.step - at.since, at.seen, tokens)
        for optimizer, rates in zip(optimizers, bases, strict=True):
            for parameters, rate in zip(optimizer.param_groups, rates, strict=True):
                parameters["lr"] = rate * factor
        loss, norm = _step(model, optimizers, group, recipe, where, pool)
        running.append(loss)
        previous = at.seen
        seen = previous + sum(batch.tokens for batch in group)
        seconds = before + time.perf_counter() - started
        at = Place(at.step + 1, seen, chunk, within + 1, seconds, at.since)
        if at.step % 50 == 0:
            mean = sum(running) / len(running)
            log.write({**asdict(at), "loss": mean, "norm": norm, "rate": factor})
            running.clear()
        if seen // evaluate_every > previous // evaluate_every:
            log.write({"seen": seen, **quick.accuracies(model, tokenizer, recipe.shares_of(chunk))})
            model.train()
            cpu.set_causal(model, where.type == "cpu")
        if seen // checkpoint_every > previous // checkpoint_every:
            save()
    save()
    pool.shutdown()
    log.close()
    return out / "model"
