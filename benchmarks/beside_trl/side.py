"""One side in a process of its own: what it tells the process that asks it for steps."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.functional import linear

from beside_trl import machine
from beside_trl.workloads import Workload
from opcd_bench.models import cpu


class Channel:
    """Lines of JSON to and from the asking process; what else is printed goes to stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, **values: Any) -> None:
        """One line."""
        self._out.write(json.dumps(values) + "\n")
        self._out.flush()

    def receive(self) -> dict[str, Any] | None:
        """The next line; None at the end."""
        line = sys.stdin.readline()
        return json.loads(line) if line.strip() else None


@dataclass
class Step:
    """What a step was and took; ``loss`` is the mean over the step, as TRL and we reduce it."""

    loss: float
    norm: float
    replies: list[list[int]]
    seconds: dict[str, float]
    whole: float


class Positions:
    """Token positions that passed the layers of either model, by phase, since ``clear``."""

    def __init__(self, student: Any, teacher: Any) -> None:
        self.clear()
        student.get_decoder().register_forward_pre_hook(self._of_student, with_kwargs=True)
        teacher.get_decoder().register_forward_pre_hook(self._of_teacher, with_kwargs=True)

    def clear(self) -> None:
        """Count from now."""
        self.counts = {"sampling": 0, "teacher": 0, "student": 0}

    def _of_student(self, _: Any, words: tuple[Any, ...], named: dict[str, Any]) -> None:
        # Gradients are recorded in training alone.
        self._count("student" if torch.is_grad_enabled() else "sampling", words, named)

    def _of_teacher(self, _: Any, words: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._count("teacher", words, named)

    def _count(self, phase: str, words: tuple[Any, ...], named: dict[str, Any]) -> None:
        given = words[0] if words else named.get("input_ids", named.get("inputs_embeds"))
        if given is not None:
            self.counts[phase] += given.shape[0] * given.shape[1]


class Memory:
    """The peak above the libraries: made before any model is loaded."""

    def __init__(self) -> None:
        self.libraries = machine.resident()

    def start(self) -> None:
        """The models are loaded: what their loading took for a moment does not count."""
        machine.forget_peak()

    def report(self) -> dict[str, int]:
        """Bytes so far."""
        return {"peak": machine.peak(), "libraries": self.libraries}


def product_peak(workload: Workload) -> dict[str, float]:
    """FLOP/s of this process in the products of a micro-batch's forward pass, by data type.

    Of each product the fastest of several ways and calls, into memory that is there already: a
    peak, which work around the products can only fall short of.
    """
    return {
        str(dtype).removeprefix("torch."): _speed(workload, dtype)
        for dtype in (torch.float32, torch.bfloat16)
    }


def _speed(workload: Workload, dtype: torch.dtype) -> float:
    work = seconds = 0.0
    for tokens, size_in, size_out, times in workload.peak_products():
        left = torch.randn(tokens, size_in, dtype=dtype)
        right = torch.randn(size_out, size_in, dtype=dtype)
        seconds += times * _fastest(left, right)
        work += times * 2 * tokens * size_in * size_out
    return work / seconds


@torch.no_grad()
def _fastest(left: torch.Tensor, right: torch.Tensor, calls: int = 15) -> float:
    out = torch.mm(left, right.t())
    taken = []
    for _ in range(calls):
        for way in (nullcontext, cpu.quick_products):
            with way():
                for product in (
                    partial(torch.mm, left, right.t(), out=out), partial(linear, left, right)
                ):  # fmt: skip
                    began = time.perf_counter()
                    product()
                    taken.append(time.perf_counter() - began)
    return min(taken)
