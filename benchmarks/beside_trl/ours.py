"""Our side: the engine, the frozen teacher and the training core, built in this one place."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
from torch import Tensor

from beside_trl import side
from beside_trl.workloads import Workload
from opcd_bench.config.suite import make_suite
from opcd_bench.distillation.losses.divergence import Divergence, named
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.teachers.local import FrozenTeacher
from opcd_bench.distillation.trainer import TrainingCore
from opcd_bench.models import cpu, loading
from opcd_bench.rollout import decoder, hf
from opcd_bench.rollout.draw import uniforms
from opcd_bench.rollout.engine import Request, Sampling

NEVER_FIRST = 0.2
"""Noise from here on never draws token 0, which ends a reply; the lengths are checked."""


class Ours:
    """The student, its teacher and what moves it."""

    def __init__(self, workload: Workload, folder: Path, learning_rate: float) -> None:
        self.workload = workload
        dtype = "bfloat16" if workload.bf16 else "float32"
        self.student = loading.load(str(folder / "student"), device="cpu", dtype=dtype)
        teacher = folder / ("student" if workload.told else "teacher")
        frozen = loading.freeze(loading.load(str(teacher), device="cpu", dtype=dtype))
        suite = make_suite(
            {
                "methods": "opcd",
                "tasks": "rule_math",
                "bf16": workload.bf16,
                "gradient_checkpointing": workload.checkpointing,
                "micro_batch_size": workload.micro_batch,
                "max_completion_length": workload.longest,
                "reduction": "sequence_mean" if workload.told else "token_mean",
                "weight_decay": 0.0,
            },
            "benchmark",
        )
        self.engine = hf.HFEngine(self.student, batch_size=len(workload.lengths))
        self.core = TrainingCore(self.student, suite, learning_rate)
        self.teacher = FrozenTeacher(frozen, suite.temperature)
        self.loss = _loss(workload)
        self.positions = side.Positions(self.student.model, frozen.model)
        _count_steps(self.positions)

    def step(self, number: int) -> side.Step:
        """Step ``number`` (0-based): prompts as text to an update of the weights."""
        workload, began = self.workload, time.perf_counter()
        prompts = workload.prompts(number)
        plain = self._ids(prompts)
        told = self._ids([workload.context() + prompt for prompt in prompts])
        replies = self._replies(plain, number)
        sampled = time.perf_counter() - began
        pairs = [
            Pair(str(row), 0, plain[row], told[row], reply.ids, reply.logprobs)
            for row, reply in enumerate(replies)
        ]
        done = self.core.step(pairs, self.loss, self.teacher)
        whole = time.perf_counter() - began
        ids = [list(reply.ids) for reply in replies]
        seconds = {"sampling": sampled, **done.seconds}
        return side.Step(done.divergence, done.grad_norm, ids, seconds, whole)

    def _ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        rows = self.student.tokenizer(list(texts))["input_ids"]
        return [tuple(row) for row in rows]

    def _replies(self, prompts: Sequence[tuple[int, ...]], number: int) -> list[hf.Reply]:
        lengths, rows = self.workload.lengths, len(prompts)
        requests = [Request(ids, number * rows + row) for row, ids in enumerate(prompts)]
        sampling = Sampling(max_completion_length=self.workload.longest)
        with mock.patch.object(hf, "uniforms", self._forcing):
            replies = self.engine.generate(requests, sampling)
        written = tuple(len(reply.ids) for reply in replies)
        if written != lengths:
            raise RuntimeError(f"replies of {written} tokens, not of {lengths}")
        return replies

    def _forcing(self, seeds: Sequence[int], steps: int) -> npt.NDArray[np.float64]:
        """Noise that ends each reply at its own length: 0 draws the first token of all."""
        noise = NEVER_FIRST + (1 - NEVER_FIRST) * uniforms(seeds, steps)
        for row, seed in enumerate(seeds):
            length = self.workload.lengths[seed % len(self.workload.lengths)]
            if length < steps:
                noise[row, length - 1] = 0.0
        return noise


def _count_steps(positions: side.Positions) -> None:
    """Count decoding steps too, which do not pass the module that is watched."""
    step = decoder.Decoder.step

    def counted(self: decoder.Decoder, ids_B: Tensor, *rest: Any) -> Tensor:
        positions.counts["sampling"] += len(ids_B)
        return step(self, ids_B, *rest)

    mock.patch.object(decoder.Decoder, "step", counted).start()


def _loss(workload: Workload) -> Divergence:
    if workload.top_k is None:
        return named("rkl_full")
    return named("rkl_renorm", support="student_top_k", k=workload.top_k)


def serve(workload: Workload, folder: Path, learning_rate: float, channel: side.Channel) -> None:
    """Answer every line with a step, until the end."""
    cpu.keep_freed_memory()  # a run does so too before its first tensor
    memory = side.Memory()
    peak = side.product_peak(workload)
    ours = Ours(workload, folder, learning_rate)
    memory.start()
    channel.send(ready=True, product_peak=peak)
    number = 0
    while channel.receive() is not None:
        ours.positions.clear()
        step = ours.step(number)
        number += 1
        channel.send(**vars(step), positions=ours.positions.counts, memory=memory.report())
