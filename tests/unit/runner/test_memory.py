"""Memory from a config alone, against what real models, optimisers and caches take."""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext

import pytest
import torch
from fixtures import tiny_model
from transformers import DynamicCache, Qwen3Config

from opcd_bench.config.suite import make_suite
from opcd_bench.errors import ModelError
from opcd_bench.models import adapters, loading
from opcd_bench.rollout.kv import as_argument
from opcd_bench.rollout.packing import Packing, packed
from opcd_bench.runner import registry
from opcd_bench.runner.estimate import memory
from opcd_bench.runner.estimate.memory import (
    Lengths,
    activation_bytes,
    head_copies,
    parts,
    peak,
    shape_of,
)

LENGTHS = Lengths(plain=50, told=90, source="a test")


def suite(**values):
    base = {"methods": "opcd", "tasks": "rule_math", "max_completion_length": 20}
    return make_suite({**base, **values}, "test")


def sizes(shape, larger=None, *, methods=("opcd",), on_gpu=False, **values) -> dict[str, int]:
    chosen = [registry.method(name) for name in methods]
    found = parts(suite(**values), chosen, shape, larger, LENGTHS, on_gpu=on_gpu)
    return {part.name: part.bytes for part in found}


@pytest.fixture
def shape():
    return shape_of("tiny", tiny_model().config)


def test_the_built_in_models_parameters_are_counted_from_its_config_alone():
    real = loading.load("micro-small", device="cpu")
    found = shape_of("micro-small", loading.config_of("micro-small"))
    assert found.parameters == sum(p.numel() for p in real.model.parameters())
    assert (found.head_rows, found.window) == (real.vocab_size + real.padded_rows, real.max_length)


def test_a_tied_head_is_counted_once_as_in_qwen3_0_6b():
    """Its card says 0.6 B; by hand: embedding, 28 layers of four projections and an MLP, norms."""
    config = Qwen3Config(
        vocab_size=151_936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28,
        num_attention_heads=16, num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
    )  # fmt: skip
    found = shape_of("qwen", config)
    layer = 2 * 1024 * 2048 + 2 * 1024 * 1024 + 3 * 1024 * 3072 + 2 * 1024 + 2 * 128
    assert found.parameters == 151_936 * 1024 + 28 * layer + 1024 == 596_049_920
    assert found.kv_entries == 2 * 28 * 8 * 128


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs peft")
@pytest.mark.parametrize("targets", ["all-linear", "q_proj,v_proj"])
def test_an_adapter_is_counted_as_peft_makes_it(targets, tiny_loaded):
    student = adapters.attach(tiny_loaded, rank=4, alpha=8, targets=targets, seed=0)
    real = sum(parameter.numel() for parameter in adapters.parameters(student))
    assert shape_of("t", tiny_model().config, rank=4, targets=targets).adapter == real > 0


def test_a_config_of_no_causal_model_is_refused():
    from transformers import CLIPConfig

    with pytest.raises(ModelError, match="'clip'"):
        shape_of("clip", CLIPConfig())


def test_weights_gradients_and_moments_are_those_of_a_real_step(shape):
    model = tiny_model()
    optimiser = torch.optim.AdamW(model.parameters())
    model(input_ids=torch.tensor([[5, 6]])).logits.sum().backward()
    optimiser.step()
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    moments = sum(
        state[key].numel() * state[key].element_size()
        for state in optimiser.state.values()
        for key in ("exp_avg", "exp_avg_sq")
    )
    found = sizes(shape)
    assert found["student"] == found["frozen teacher"] == found["gradients"] == weights
    assert found["optimiser"] == moments
    assert sizes(shape, dtype="bfloat16")["student"] == weights // 2
    assert sizes(shape, dtype="bfloat16")["optimiser"] == moments // 2


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
def test_8_bit_moments_are_those_of_bitsandbytes(shape):
    from bitsandbytes.optim import AdamW8bit

    parameter = torch.nn.Parameter(torch.zeros(shape.parameters))
    parameter.grad = torch.ones_like(parameter)
    optimiser = AdamW8bit([parameter])
    optimiser.step()
    state = optimiser.state[parameter]
    real = sum(
        state[key].numel() * state[key].element_size()
        for key in ("state1", "state2", "absmax1", "absmax2")
    )
    assert sizes(shape, optim="adamw_8bit")["optimiser"] == real


def test_keys_and_values_are_those_of_a_real_cache(shape):
    model, rows = tiny_model(), 3
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(input_ids=torch.full((rows, 70), 5), use_cache=True, **as_argument(model, cache))
    real = sum(t.numel() * 4 for layer in cache.layers for t in (layer.keys, layer.values))
    found = sizes(shape, rollout_batch_size=rows)
    assert found["keys and values"] == real  # 50 tokens of prompt and 20 of reply
    assert found["keys and values of the context"] == real * 40 // 70 // rows, "all rows share it"


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("layers", [2, 4])
def test_activations_are_a_bound_and_a_close_one(bf16, on_gpu, layers):
    """Against the bytes that autograd really keeps; off the GPU's path SDPA keeps no weights."""
    model, length = tiny_model(num_hidden_layers=layers), 192
    model = model.to(torch.bfloat16) if bf16 else model
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    packing = Packing([length] * 4, torch.device("cpu"))
    quick = nullcontext() if on_gpu else packed(model, packing, [])
    ids = torch.full((4, length) if on_gpu else (1, 4 * length), 7)
    positions = packing.positions([0] * 4)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        quick,
    ):
        places = {} if on_gpu else {"position_ids": positions}
        states = model.model(input_ids=ids, use_cache=False, **places)
        real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert states.last_hidden_state.requires_grad
    bound = 4 * activation_bytes(shape_of("t", model.config), length, suite(bf16=bf16), on_gpu)
    assert real <= bound <= 1.6 * real


def test_gradient_checkpointing_keeps_one_layer_and_the_inputs_of_the_others():
    shape = shape_of("t", tiny_model(num_hidden_layers=8).config)
    kept, recomputed = (
        activation_bytes(shape, 100, suite(gradient_checkpointing=on), True) for on in (False, True)
    )
    rotation = 2 * 4 * 100 * shape.head_dim
    assert recomputed - rotation == 8 * 100 * shape.hidden * 4 + (kept - rotation) // 8


def test_lora_keeps_one_copy_of_the_weights_and_trains_the_adapter(shape):
    lora = shape_of("tiny", tiny_model().config, rank=4)
    found, whole = sizes(lora, lora_rank=4), sizes(shape)
    assert "frozen teacher" not in found
    assert found["adapter"] == found["gradients"] == 4 * lora.adapter
    assert found["optimiser"] == 8 * lora.adapter < whole["optimiser"]


def test_a_larger_teacher_is_16_bit_on_a_gpu_and_its_cache_counts(shape):
    larger = shape_of("larger", tiny_model(num_hidden_layers=4).config)
    on_gpu, on_cpu = (sizes(shape, larger, on_gpu=gpu) for gpu in (True, False))
    assert (on_gpu["larger teacher"], on_cpu["larger teacher"]) == (
        2 * larger.parameters, 4 * larger.parameters,
    )  # fmt: skip
    assert on_cpu["keys and values"] == 2 * sizes(shape)["keys and values"]


def test_an_ema_teacher_is_a_copy_more(shape):
    import dataclasses

    from opcd_bench.distillation.method import Teacher

    method = dataclasses.replace(registry.method("opcd"), teacher=Teacher("ema", rate=0.9))
    found = parts(suite(), [method], shape, None, LENGTHS, on_gpu=False)
    assert [part.bytes for part in found if part.name == "ema teacher"] == [4 * shape.parameters]


def test_logits_in_the_loss_follow_the_costliest_method(shape):
    copies = {
        m: head_copies(registry.method(m)) for m in ("sft_context", "opcd", "opcd_full", "jsd")
    }
    assert copies == {"sft_context": 3, "opcd": 4, "opcd_full": 4, "jsd": 4}
    found = sizes(shape, methods=("sft_context", "opcd"), micro_batch_size=2)
    assert found["logits in the loss"] == 2 * 20 * 259 * 4 * 4


def test_the_peak_of_a_phase_is_what_is_always_there_and_its_own(shape):
    found = parts(suite(), [registry.method("opcd")], shape, None, LENGTHS, on_gpu=False)
    total = {when: sum(p.bytes for p in found if p.when == when) for when in memory.When.__args__}
    assert peak(found) == {
        "writing": total["always"] + total["writing"],
        "training": total["always"] + total["training"],
    }


def test_models_with_another_tokenizer_size_keep_their_head_rows():
    assert shape_of("t", tiny_model(vocab_size=320).config).head_rows == 320
