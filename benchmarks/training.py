"""Time an optimiser step, with and without what makes a CPU quick; prints the ratio.

python benchmarks/training.py [--model micro-small] [--replies 64] [--threads 1]
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import torch

from opcd_bench.config.suite import make_suite
from opcd_bench.distillation import scoring
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.teachers.local import FrozenTeacher
from opcd_bench.distillation.trainer import TrainingCore
from opcd_bench.models import cpu, loading


@contextmanager
def plain_transformers() -> Iterator[None]:
    """Padded rows, transformers' own attention, PyTorch's own products."""
    with (
        mock.patch.object(scoring, "_packs", lambda model: False),
        mock.patch.object(cpu, "quick_products", nullcontext),
    ):
        yield


def main() -> None:
    """Print seconds a step of both, and their ratio, in alternating rounds of one process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="micro-small")
    parser.add_argument("--replies", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    initial = loading.copy_frozen(loading.load(words.model, device="cpu"))
    student = dataclasses.replace(initial, model=copy.deepcopy(initial.model))
    suite = make_suite({"methods": "opcd", "tasks": "rule_math"}, "benchmark")
    core = TrainingCore(student, suite, 1e-6)
    rng = random.Random(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(rng.randrange(10, initial.vocab_size) for _ in range(n))

    pairs = [
        Pair(
            str(i), 0, ids(rng.randint(30, 60)), ids(rng.randint(90, 140)), ids(rng.randint(30, 80))
        )
        for i in range(words.replies)
    ]
    loss = named("rkl_full")
    patches = {
        "quick": lambda: nullcontext(),
        "plain": plain_transformers,
    }
    seconds: dict[str, list[float]] = {name: [] for name in patches}
    for round_number in range(words.rounds + 1):
        for name, patch in patches.items():
            with patch():
                began = time.process_time()
                core.step(pairs, loss, FrozenTeacher(initial, core.suite.temperature))
                if round_number:
                    seconds[name].append(time.process_time() - began)
    quick, plain = min(seconds["quick"]), min(seconds["plain"])
    print(f"{words.replies} replies: quick {quick:.2f} s, plain {plain:.2f} s processor time")
    print(f"plain / quick = {plain / quick:.2f}")


if __name__ == "__main__":
    main()
