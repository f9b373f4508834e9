"""What a cell says when the GPU's memory is exhausted: which setting to lower."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch

from opcd_bench.config.suite import Suite
from opcd_bench.errors import CellFailed
from opcd_bench.models.source import first_line
from opcd_bench.printable import url_without_secrets
from opcd_bench.rollout.vllm_local import SHARE_OF_GPU

Phase = Literal["loading", "writing", "training", "scoring"]

DOING: Mapping[Phase, str] = {
    "loading": "loading the model",
    "writing": "generating responses",
    "training": "training",
    "scoring": "evaluating",
}
"""The phases in the words of users."""


@contextmanager
def explain_out_of_memory(phase: Phase, suite: Suite) -> Iterator[None]:
    """Turn a GPU that is out of memory into CellFailed, with the settings that this phase hangs on.

    What the cell has stored stays, and the same command goes on from its last checkpoint.
    """
    if phase == "loading" and torch.cuda.is_available():
        torch.cuda.empty_cache()  # what a cell that failed left with the allocator
    try:
        yield
    except torch.OutOfMemoryError as error:
        knobs = "; ".join(_knobs(phase, suite))
        raise CellFailed(
            f"the GPU is out of memory while {DOING[phase]}: {knobs}. Nothing is lost: change "
            f"one of these settings and type the same command again ({first_line(error)})"
        ) from error


def _knobs(phase: Phase, suite: Suite) -> list[str]:
    if phase in ("writing", "scoring"):
        return [*_processes(suite), *_writer(suite), *_vllm_share(suite)]
    found = _processes(suite)
    if phase == "training" and suite.micro_batch_tokens is not None:
        found.append(
            f"lower micro_batch_tokens, which is {suite.micro_batch_tokens}: "
            f"--set micro_batch_tokens={max(1, suite.micro_batch_tokens // 2)}"
        )
    elif phase == "training" and suite.micro_batch_size > 1:
        found.append(
            f"lower micro_batch_size, which is {suite.micro_batch_size}: "
            f"--set micro_batch_size={suite.micro_batch_size // 2}"
        )
    if phase == "training" and not suite.gradient_checkpointing:
        found.append("--set gradient_checkpointing=true (slower; the results stay the same)")
    if suite.lora_rank is None:
        found.append(
            "--set lora_rank=16 (one copy of the weights and a trained adapter; changes the "
            "results)"
        )
    elif suite.dtype != "bfloat16":
        found.append("--set dtype=bfloat16 (halves the frozen weights; changes the results)")
    if phase == "training" and suite.optim == "adamw" and suite.lora_rank is None:
        found.append(
            "--set optim=adamw_8bit (moments take a quarter of the memory; changes the results)"
        )
    found += _vllm_share(suite)
    return found or ["lower max_completion_length, or use a smaller model"]


def _processes(suite: Suite) -> list[str]:
    """Processes that share the GPU, each with models of its own."""
    if suite.jobs == 1:
        return []
    return [
        f"lower jobs, which is {suite.jobs}, since all use the same GPU (the results stay the "
        f"same): --jobs {suite.jobs // 2}"
    ]


def _writer(suite: Suite) -> list[str]:
    """What bounds the replies that are written at a time: of transformers, or of vLLM."""
    if suite.engine == "hf":
        return [
            f"lower rollout_batch_size, which is {suite.rollout_batch_size} (the results stay "
            f"the same): --set rollout_batch_size={max(1, suite.rollout_batch_size // 2)}"
        ]
    if suite.vllm_url is not None:
        return [
            f"start the vLLM at {url_without_secrets(suite.vllm_url)} with a smaller "
            "--gpu-memory-utilization, or on another GPU"
        ]
    return [
        "lower the number of responses that vLLM generates at a time: max_num_seqs = 64 in "
        "vllm_options"
    ]


def _vllm_share(suite: Suite) -> list[str]:
    """What a vLLM in this process keeps of the GPU, whatever it is doing."""
    writes = suite.engine == "vllm" and suite.vllm_url is None
    teaches = suite.teacher_engine == "vllm" and suite.teacher_url is None
    if not (writes or teaches):
        return []
    share = float(suite.vllm_options.get("gpu_memory_utilization", SHARE_OF_GPU))
    options = {**suite.vllm_options, "gpu_memory_utilization": round(share * 0.75, 3)}
    return [
        f"lower vLLM's share of the GPU, which is {share:g}: --set 'vllm_options="
        f"{_inline_table(options)}'"
    ]


def _inline_table(options: Mapping[str, Any]) -> str:
    """Options as --set reads them."""
    return "{" + ", ".join(f"{key} = {_toml(value)}" for key, value in options.items()) + "}"


def _toml(value: Any) -> str:
    """A value of TOML, as TOML: its texts, numbers and lists are those of JSON."""
    return _inline_table(value) if isinstance(value, Mapping) else json.dumps(value)
