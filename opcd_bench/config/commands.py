"""The settings of `opcd-bench extract` and `opcd-bench select`, each declared once.

What a suite has too is taken from the suite's declaration (`fields.Settings`).
"""

from __future__ import annotations

from copy import copy
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from opcd_bench.config.bounds import COUNT
from opcd_bench.config.experience import Choice, Declared, Extraction
from opcd_bench.config.fields import Settings
from opcd_bench.config.urls import ServerUrl


def same(name: str, help: str | None = None) -> Any:
    """A setting of a suite as it is declared there; ``help`` where it serves another purpose."""
    field = copy(Settings.model_fields[name])
    field.description = help or field.description
    return field


class ModelSettings(Declared):
    """Which task is read, and by which model on which engine."""

    model: str = same("model", "Model: Hub id, local folder, or 'micro-small' (built in).")
    history: Literal["last", "full"] = same("history")
    data_dir: str | None = same("data_dir")
    model_dir: str | None = same("model_dir")
    revision: str | None = same("revision")
    device: str = same("device")
    dtype: Literal["auto", "float32", "bfloat16"] = same(
        "dtype", "Data type of the weights. auto: bfloat16 on a GPU, float32 on a CPU."
    )
    batch_size: int = same("rollout_batch_size")
    threads: int | None = same("threads")
    engine: Literal["hf", "vllm"] = same("engine")
    vllm_url: ServerUrl = same(
        "vllm_url", "URL of a running vLLM server with the model (--engine vllm)."
    )
    enable_thinking: bool = same(
        "enable_thinking",
        "Let the model think before it answers, if its chat template can ask for it.",
    )
    trust_remote_code: bool = same("trust_remote_code")
    max_completion_length: int = same("max_completion_length")

    @model_validator(mode="after")
    def _engine_of_a_server(self) -> Self:
        if self.vllm_url is not None and self.engine != "vllm":
            raise ValueError("--vllm-url is given without vLLM; add --engine vllm")
        return self


class ExtractSettings(ModelSettings, Extraction):
    """The options of `opcd-bench extract`; attempts are drawn anew, so not as a suite trains."""

    temperature: float = Field(
        default=1.0, description="Sampling temperature of the attempts; 0 is greedy.", ge=0
    )
    reflect_temperature: float = Field(
        default=0.0, description="Sampling temperature of the reflections; 0 is greedy.", ge=0
    )
    top_p: float = same("top_p", "Nucleus sampling of attempts and reflections; 1 is off.")
    top_k: int = same("top_k", "Top-k sampling of attempts and reflections; 0 is off.")


class SelectSettings(ModelSettings, Choice):
    """The options of `opcd-bench select`; decoding is that of a suite's evaluations."""

    seed: int = Field(
        default=0,
        description="Seed of --select random, and of sampling where it is not greedy.",
        ge=0,
        lt=2**63,
    )
    first_items: int = Field(
        default=16,
        description="Dev examples in the first scoring round; every next round doubles them.",
        ge=1,
        le=COUNT,
    )
    dev_items: int = same("dev_items", "Maximum number of dev examples.")
    temperature: float = same(
        "eval_temperature", "Sampling temperature of the scored responses; 0 is greedy."
    )
    top_p: float = same("eval_top_p", "Nucleus sampling of the scored responses; 1 is off.")
    top_k: int = same("eval_top_k", "Top-k sampling of the scored responses; 0 is off.")
