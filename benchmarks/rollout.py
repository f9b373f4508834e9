"""Tokens a second of HFEngine against transformers' generate, on the same requests in one run.

    python benchmarks/rollout.py                      a random model of the built-in model's size
    python benchmarks/rollout.py --model micro-small        or any model that opcd-bench opens
    python benchmarks/rollout.py --shared 120         told prompts: 120 tokens that all share
    python benchmarks/rollout.py --model FOLDER --vllm    vLLM beside it, where it is installed

Both write exactly ``--reply`` tokens unless a sampled end of sequence stops them; a token counts
if it belongs to a reply (for generate: up to its first end of sequence). On a machine that others
use as well, read the rate per second of processor time, with ``--threads 1``.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import random
import time
from collections.abc import Callable

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.loading import load
from opcd_bench.rollout.engine import Request, Sampling
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.rollout.vllm import VLLMEngine, WeightSync
from opcd_bench.rollout.vllm_local import LocalVLLM

MICRO_SIZE = {
    "vocab_size": 1024,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}


class _NoText:
    """Stands in for the tokenizer of a random model: there is no text to decode."""

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return ""


def random_model() -> LoadedModel:
    """A model of the built-in model's size that ends a reply about once in 64 tokens."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**MICRO_SIZE)).eval()
    if torch.cuda.is_available():
        model = model.to("cuda", torch.bfloat16)
    return LoadedModel(
        name="random",
        model=model,
        tokenizer=_NoText(),  # type: ignore[arg-type]
        device=model.device,
        dtype=model.dtype,
        eos_ids=tuple(range(1008, 1024)),
        pad_id=0,
        vocab_size=1024,
        padded_rows=0,
        max_length=2048,
    )


def requests_of(args: argparse.Namespace, vocab_size: int) -> list[Request]:
    """Random prompts of 60 to 250 tokens, of which the first ``--shared`` are the same."""
    rng = random.Random(0)
    told = tuple(rng.randrange(3, vocab_size - 16) for _ in range(args.shared))
    return [
        Request(
            told + tuple(rng.randrange(3, vocab_size - 16) for _ in range(rng.randint(60, 250))),
            seed,
        )
        for seed in range(args.requests)
    ]


def generate(loaded: LoadedModel, requests: list[Request], batch: int, most: int) -> int:
    """Tokens that transformers' generate wrote on the same requests, sorted alike."""
    total = 0
    for begin in range(0, len(requests), batch):
        part = sorted(requests[begin : begin + batch], key=lambda r: len(r.prompt_ids))
        width = max(len(r.prompt_ids) for r in part)
        ids = [[loaded.pad_id] * (width - len(r.prompt_ids)) + list(r.prompt_ids) for r in part]
        mask = [[0] * (width - len(r.prompt_ids)) + [1] * len(r.prompt_ids) for r in part]
        out = loaded.model.generate(
            torch.tensor(ids, device=loaded.device),
            attention_mask=torch.tensor(mask, device=loaded.device),
            max_new_tokens=most,
            do_sample=True,
            top_k=0,
            eos_token_id=list(loaded.eos_ids),
            pad_token_id=loaded.pad_id,
        )
        for row in out[:, width:].tolist():
            ends = [i + 1 for i, token in enumerate(row) if token in loaded.eos_ids]
            total += ends[0] if ends else len(row)
    return total


def main() -> None:
    """Print both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=None, help="default: random weights")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--reply", type=int, default=80)
    parser.add_argument("--shared", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--skip-generate", action="store_true")
    parser.add_argument("--vllm", action="store_true", help="in float32; needs --model")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    loaded = load(args.model) if args.model else random_model()
    requests = requests_of(args, loaded.vocab_size)
    module = copy.deepcopy(loaded.model).to(torch.bfloat16)
    rounded = dataclasses.replace(loaded, model=module, dtype=torch.bfloat16)
    engines = {
        "float32": HFEngine(loaded, batch_size=args.batch_size),
        "bfloat16": HFEngine(rounded, batch_size=args.batch_size),
    }
    writers: dict[str, Callable[[list[Request], int], int]] = {
        name: lambda some, most, engine=engine: sum(
            len(reply.ids) for reply in engine.generate(some, Sampling(max_completion_length=most))
        )
        for name, engine in engines.items()
    }
    if not args.skip_generate:
        writers["generate"] = lambda some, most: generate(loaded, some, args.batch_size, most)
    if args.vllm:
        backend = LocalVLLM(loaded, args.model, options={"max_model_len": 512 + args.shared})
        served = VLLMEngine(loaded, WeightSync(backend))
        writers["vllm"] = lambda some, most: sum(
            len(r.ids) for r in served.generate(some, Sampling(max_completion_length=most))
        )
    wall: dict[str, float] = dict.fromkeys(writers, 0.0)
    busy: dict[str, float] = dict.fromkeys(writers, 0.0)
    for write in writers.values():
        write(requests[:4], 3)
    for _ in range(args.rounds):
        for name, write in writers.items():
            began, began_busy = time.perf_counter(), time.process_time()
            written = write(requests, args.reply)
            wall[name] = max(wall[name], written / (time.perf_counter() - began))
            busy[name] = max(busy[name], written / (time.process_time() - began_busy))
    for name in writers:
        against = ""
        if "generate" in writers and name != "generate":
            against = (
                f" = {wall[name] / wall['generate']:.2f} and "
                f"{busy[name] / busy['generate']:.2f} times generate's"
            )
        print(
            f"{name}: {wall[name]:.0f} tokens a second, {busy[name]:.0f} a second of processor "
            f"time{against} (best of {args.rounds})"
        )


if __name__ == "__main__":
    main()
