"""The model that attempts, reflects and is scored, with its engine and what identifies it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from opcd_bench.config.commands import ModelSettings
from opcd_bench.hashing import text_digest
from opcd_bench.models import loading, saving
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.model_dir import given
from opcd_bench.models.source import source_of
from opcd_bench.rollout.engine import Engine
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.rollout.vllm import VLLMEngine, WeightSync
from opcd_bench.rollout.vllm_local import started
from opcd_bench.rollout.vllm_server import VLLMServer


@dataclass(frozen=True)
class Reader:
    """``identity`` is all that its replies depend on besides prompt and sampling, as JSON."""

    loaded: LoadedModel
    engine: Engine
    identity: Mapping[str, Any]


def opened(settings: ModelSettings, date: str | None = None) -> Reader:
    """The model of a command's settings on its engine; ModelError where it cannot be used.

    ``date`` (YYYY-MM-DD) is what a chat template that prints today's date prints.
    ``threads`` is how many a CPU's products take, for the whole process.
    """
    model, revision = settings.model, settings.revision
    folders = given(settings.model_dir)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    url = settings.vllm_url
    server = None if url is None else VLLMServer(url)  # before a model is loaded
    loaded = loading.load(
        model,
        revision=revision,
        device=settings.device,
        dtype=settings.dtype,
        enable_thinking=settings.enable_thinking,
        trust_remote_code=settings.trust_remote_code,
        date=date,
        model_dir=folders,
    )
    identity = identity_of(model, loaded)
    if settings.engine == "hf":
        return Reader(loaded, HFEngine(loaded, batch_size=settings.batch_size), identity)
    if server is None:
        source = source_of(model, allow_pickle=True, model_dir=folders)
        vllm = started(loaded, source, revision=revision, most_ids=0, options={}, role="writer")
    else:
        server.check_tokenizer(loaded.tokenizer, model)
        vllm = WeightSync(server)
    return Reader(loaded, VLLMEngine(loaded, vllm), {**identity, "engine": settings.engine})


def identity_of(model: str, loaded: LoadedModel) -> dict[str, Any]:
    """Name, weights, type and chat template of a model, what date it prints, if it thinks."""
    template = str(loaded.tokenizer.chat_template)
    return {
        "model": model,
        "weights": saving.weights_hash(loaded.model),
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "chat_template": text_digest(template),
        **({"date": loaded.date} if loaded.date else {}),
        **({"thinking": True} if loaded.thinking else {}),
    }
