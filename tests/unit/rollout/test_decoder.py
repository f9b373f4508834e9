"""The decoding step of Llama-like models: transformers' numbers, and another model's own step."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from fixtures import tiny_tokenizer
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from opcd_bench.models import adapters
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.loading import assemble
from opcd_bench.rollout import decoder
from opcd_bench.rollout.engine import Request, Sampling
from opcd_bench.rollout.hf import HFEngine

LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 4.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
SHAPES = {
    "llama": (LlamaConfig, {}),
    "llama, biased": (LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "llama, tied and stretched": (
        LlamaConfig, {"tie_word_embeddings": True, "rope_parameters": LLAMA3_ROPE},
    ),
    "llama, gelu": (LlamaConfig, {"hidden_act": "gelu"}),
    "mistral": (MistralConfig, {"sliding_window": None}),
    "qwen2": (Qwen2Config, {}),
    "qwen3": (Qwen3Config, {"head_dim": 32}),
}  # fmt: skip


def made(name: str, dtype: torch.dtype = torch.float32) -> LoadedModel:
    config, more = SHAPES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(
            config(
                vocab_size=259, hidden_size=96, intermediate_size=128, num_hidden_layers=3,
                num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=512,
                pad_token_id=0, eos_token_id=2, bos_token_id=None, **{"head_dim": 16, **more},
            )
        ).eval()  # fmt: skip
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape) * 0.15
            parameter.data = parameter.data + noise if "norm" in name else noise
    return assemble(name, model.to(dtype), tiny_tokenizer())


def some_requests(shared: int) -> list[Request]:
    head = tuple(3 + (7 * i) % 250 for i in range(shared))
    return [Request((*head, *range(3, 5 + 4 * i)), i) for i in range(6)]


def forced(loaded: LoadedModel, request: Request, ids: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad(), adapters.active(loaded):
        logits = loaded.model(torch.tensor([request.prompt_ids + ids])).logits[0].float()
    logp = logits[len(request.prompt_ids) - 1 : -1, : loaded.vocab_size].log_softmax(-1)
    return logp.gather(1, torch.tensor(ids)[:, None])[:, 0]


def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each decoding step of ours had."""
    seen: list[int] = []
    step = decoder.Decoder.step

    def counted(self, ids_B, *rest):
        seen.append(len(ids_B))
        return step(self, ids_B, *rest)

    monkeypatch.setattr(decoder.Decoder, "step", counted)
    return seen


@pytest.mark.parametrize("shared", [0, 70])
@pytest.mark.parametrize("name", SHAPES)
def test_replies_and_log_probs_are_those_of_the_whole_forward_pass(name, shared, monkeypatch):
    loaded, some, seen = made(name), some_requests(shared), watched(monkeypatch)
    # 70 tokens: the buffers grow twice on the way.
    replies = HFEngine(loaded).generate(some, Sampling(max_completion_length=70))
    assert len(seen) >= 60
    for request, reply in zip(some, replies, strict=True):
        expected = forced(loaded, request, reply.ids)
        torch.testing.assert_close(torch.tensor(reply.logprobs), expected, atol=2e-4, rtol=0.0)
    by_module = HFEngine(loaded)
    by_module._direct = False
    others = by_module.generate(some, Sampling(max_completion_length=70))
    assert [reply.ids for reply in others] == [reply.ids for reply in replies]


def test_bfloat16_is_as_near_to_float32_as_the_modules_are():
    exact, request = made("qwen3"), Request((5, 9, 40, 7, 12), 3)
    reply = HFEngine(exact).generate([request], Sampling(max_completion_length=40))[0]
    rounded = made("qwen3", torch.bfloat16)
    gaps = []
    for direct in (True, False):
        engine = HFEngine(rounded)
        assert engine._direct
        engine._direct = direct
        written = engine.generate([request], Sampling(max_completion_length=40))[0]
        told = forced(exact, request, written.ids)
        gaps.append((torch.tensor(written.logprobs) - told).abs().mean().item())
    assert reply.ids and gaps[0] < max(1.5 * gaps[1], 0.02)


def test_weights_that_moved_in_place_and_adapters_are_seen(monkeypatch):
    pytest.importorskip("peft")
    loaded, seen = made("qwen2"), watched(monkeypatch)
    loaded = dataclasses.replace(loaded, model=copy.deepcopy(loaded.model))
    engine, (request, *_) = HFEngine(loaded), some_requests(0)
    sampling = Sampling(max_completion_length=12)
    engine.generate([request], sampling)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.mul_(1.3)
    (reply,) = engine.generate([request], sampling)
    torch.testing.assert_close(
        torch.tensor(reply.logprobs), forced(loaded, request, reply.ids), atol=2e-4, rtol=0.0
    )
    student = adapters.attach(loaded, rank=2, alpha=4, targets="all-linear", seed=0)
    with torch.no_grad():
        for parameter in adapters.parameters(student):
            parameter.normal_(0, 0.2)
    written = []
    for reading in (student, adapters.before(student)):
        (reply,) = HFEngine(reading).generate([request], sampling)
        expected = forced(reading, request, reply.ids)
        torch.testing.assert_close(torch.tensor(reply.logprobs), expected, atol=2e-4, rtol=0.0)
        written.append(reply.logprobs)
    assert written[0] != written[1] and len(seen) >= 24


def test_models_of_another_kind_and_changed_ones_keep_their_own_step(monkeypatch):
    seen = watched(monkeypatch)
    shape = {"vocab_size": 259, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None}
    for config in (
        GPT2Config(n_embd=32, n_layer=1, n_head=2, n_positions=64, **shape),
        GraniteConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=2, logits_scaling=3.0, **shape,
        ),
    ):  # fmt: skip
        other = assemble("other", AutoModelForCausalLM.from_config(config), tiny_tokenizer())
        HFEngine(other).generate([Request((5, 6, 7), 0)], Sampling(max_completion_length=4))
    changed = made("llama")
    norm = changed.model.model.norm
    monkeypatch.setattr(norm, "forward", lambda x, was=norm.forward: 1.4 * was(x))
    (reply,) = HFEngine(changed).generate(
        [Request((5, 6, 7), 0)], Sampling(max_completion_length=4)
    )
    torch.testing.assert_close(
        torch.tensor(reply.logprobs),
        forced(changed, Request((5, 6, 7), 0), reply.ids), atol=2e-4, rtol=0.0,
    )  # fmt: skip
    # The changed model was tried, two steps of two rows, and refused.
    assert seen == [2, 2]
