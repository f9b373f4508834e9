"""The model that attempts, reflects and is scored, with its engine and what identifies it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from opcd_bench.hashing import text_digest
from opcd_bench.models import loading, saving
from opcd_bench.models.loaded import LoadedModel
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


def opened(
    model: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    batch: int = 128,
    threads: int | None = None,
    engine: str = "hf",
    vllm_url: str | None = None,
    enable_thinking: bool = False,
    trust_remote_code: bool = False,
) -> Reader:
    """The model of that name on an engine; ModelError where it cannot be used.

    ``engine``: hf, or vllm, in process or the server at ``vllm_url``. ``threads`` is how many a
    CPU's products take, for the whole process (None: torch's choice).
    """
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = loading.load(
        model,
        revision=revision,
        device=device,
        dtype=dtype,
        enable_thinking=enable_thinking,
        trust_remote_code=trust_remote_code,
    )
    identity = identity_of(model, loaded)
    if engine == "hf":
        return Reader(loaded, HFEngine(loaded, batch_size=batch), identity)
    if vllm_url is None:
        follower = started(loaded, model, revision=revision, most_ids=0, options={}, role="writer")
    else:
        server = VLLMServer(vllm_url)
        server.check_tokenizer(loaded.tokenizer, model)
        follower = WeightSync(server)
    return Reader(loaded, VLLMEngine(loaded, follower), {**identity, "engine": engine})


def identity_of(model: str, loaded: LoadedModel) -> dict[str, Any]:
    """Name, weights, type and chat template of a model, and whether it thinks."""
    template = str(loaded.tokenizer.chat_template)
    return {
        "model": model,
        "weights": saving.weights_hash(loaded.model),
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "chat_template": text_digest(template),
        **({"thinking": True} if loaded.thinking else {}),
    }
