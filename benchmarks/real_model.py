"""Time OPCD steps of a Qwen3-shaped model with random weights: seconds by phase, tokens, memory.

python benchmarks/real_model.py                 Qwen3-0.6B's shape, for one GPU
python benchmarks/real_model.py --cpu           a size that two cores bear in some three minutes
python benchmarks/real_model.py --lora-rank 16 --dtype bfloat16 --attention flash_attention_2

Offline: the tokenizer is made here, with as many ids as Qwen3's. Random weights hardly ever end a
reply, so every reply has its full length.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import random
import resource
import statistics
import time

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from opcd_bench.config.suite import Suite, make_suite
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.teachers.local import FrozenTeacher
from opcd_bench.distillation.trainer import TrainingCore
from opcd_bench.models import adapters
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.loading import assemble, freeze
from opcd_bench.rollout.engine import Request, Sampling
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.runner import registry
from opcd_bench.runner.estimate import memory

TOKENS, HEAD_ROWS = 151_669, 151_936
"""Ids of Qwen3's tokenizer, and rows of its LM head."""
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
PHASES = ("written", "teacher", "student", "optimiser")


@dataclasses.dataclass(frozen=True)
class Size:
    """A model's shape and a step's: tokens of prompts and replies, replies a step."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    plain: int
    told: int
    reply: int
    replies: int
    micro_batch: int
    steps: int


FULL = Size(1024, 3072, 28, 16, 8, 128, 256, 2048, 1024, 32, 4, 20)
CPU = Size(256, 768, 4, 4, 2, 64, 32, 256, 32, 4, 4, 5)


def main() -> None:
    """Print the table of one configuration."""
    words = _words()
    size = CPU if words.cpu else FULL
    size = dataclasses.replace(size, steps=words.steps or size.steps)
    device = torch.device("cpu" if words.cpu else "cuda")
    if words.threads:
        torch.set_num_threads(words.threads)
    suite = make_suite(
        {
            "methods": "opcd",
            "tasks": "rule_math",
            "dtype": words.dtype,
            "bf16": device.type == "cuda",
            "gradient_checkpointing": words.gradient_checkpointing,
            "micro_batch_size": words.micro_batch_size or size.micro_batch,
            "max_completion_length": size.reply,
            "rollout_batch_size": size.replies,
            "optim": words.optim,
            "lora_rank": words.lora_rank,
            "device": str(device),
        },
        "benchmark",
    )
    initial = random_model(size, suite, words.attention, device)
    if suite.lora_rank is None:
        module = copy.deepcopy(initial.model).requires_grad_(True)
        student = dataclasses.replace(initial, model=module)
    else:
        student = adapters.attach(
            initial, rank=suite.lora_rank, alpha=suite.lora_alpha, targets="all-linear", seed=0
        )
        initial = adapters.before(student)
    rows = run(size, suite, student, initial)
    report(size, suite, student, rows)


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--optim", default="adamw", choices=["adamw", "adamw_8bit"])
    parser.add_argument("--lora-rank", type=int)
    parser.add_argument("--micro-batch-size", type=int)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    return parser.parse_args()


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer whose further ids no text has."""
    named = ["<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    named += [f"<unused {i}>" for i in range(TOKENS - len(named))]
    made = Tokenizer(models.BPE({token: i for i, token in enumerate(named)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|end|>", pad_token="<|end|>", chat_template=TEMPLATE
    )


def random_model(size: Size, suite: Suite, attention: str, device: torch.device) -> LoadedModel:
    """The frozen model before training, its weights drawn from a fixed seed."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=HEAD_ROWS,
        hidden_size=size.hidden,
        intermediate_size=size.intermediate,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.head_dim,
        tie_word_embeddings=True,
        attn_implementation=attention,
    )
    kind = torch.bfloat16 if suite.dtype == "bfloat16" else torch.float32
    with torch.device(device):
        model = Qwen3ForCausalLM(config).to(kind)
    model.generation_config.eos_token_id = None
    return freeze(assemble("random", model.eval(), tokenizer()))


def run(
    size: Size, suite: Suite, student: LoadedModel, teacher: LoadedModel
) -> list[dict[str, float]]:
    """Seconds by phase and tokens of each step; the first, which warms up, is left out."""
    rng = random.Random(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(rng.randrange(1, TOKENS) for _ in range(n))

    context = ids(size.told - size.plain)
    engine = HFEngine(student, batch_size=suite.rollout_batch_size)
    core = TrainingCore(student, suite, 1e-6)
    loss = registry.method("opcd").loss
    rows = []
    for step in range(size.steps + 1):
        prompts = [ids(size.plain) for _ in range(size.replies)]
        began = time.perf_counter()
        requests = [Request(prompt, seed=i + step) for i, prompt in enumerate(prompts)]
        replies = engine.generate(requests, Sampling(max_completion_length=size.reply))
        if student.device.type == "cuda":
            torch.cuda.synchronize(student.device)
        written = time.perf_counter() - began
        pairs = [
            Pair(str(i), 0, prompt, context + prompt, reply.ids, reply.logprobs)
            for i, (prompt, reply) in enumerate(zip(prompts, replies, strict=True))
        ]
        done = core.step(pairs, loss, FrozenTeacher(teacher, core.suite.temperature))
        if step:
            rows.append({"written": written, **done.seconds, "tokens": done.tokens})
    return rows


def report(size: Size, suite: Suite, student: LoadedModel, rows: list[dict[str, float]]) -> None:
    """Print medians, speeds, and the peak beside its estimate."""
    on_gpu = student.device.type == "cuda"
    where = (
        torch.cuda.get_device_name(student.device)
        if on_gpu
        else (f"CPU, {torch.get_num_threads()} threads")
    )
    shape = memory.shape_of("random", student.model.config, rank=suite.lora_rank)
    print(f"{where}, torch {torch.__version__}, {shape.parameters:,} parameters, {suite.dtype}")
    print(
        f"{len(rows)} OPCD steps: {size.replies} replies of {size.reply} tokens, prompts of "
        f"{size.plain} tokens plain and {size.told} told, {HEAD_ROWS} head rows"
    )
    median = {phase: statistics.median(row[phase] for row in rows) for phase in PHASES}
    whole = sum(median.values())
    for phase in PHASES:
        print(f"  {phase:<10} {median[phase]:8.2f} s a step  {median[phase] / whole:5.0%}")
    tokens = statistics.median(row["tokens"] for row in rows)
    print(f"  in all     {whole:8.2f} s a step  {tokens / whole:.0f} reply tokens a second")
    print(
        f"  writing {tokens / median['written']:.0f} tokens a second, training "
        f"{tokens / (whole - median['written']):.0f}"
    )
    peak = (
        torch.cuda.max_memory_allocated(student.device)
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    lengths = memory.Lengths(size.plain, size.told, "the benchmark")
    found = memory.parts(suite, [registry.method("opcd")], shape, None, lengths, on_gpu=on_gpu)
    bound = max(memory.peak(found).values())
    kind = "GPU memory allocated" if on_gpu else "the process, libraries included"
    print(f"  peak {peak / 2**30:.2f} GiB ({kind}); estimated at most {bound / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
