"""What prompts share is read once, and changes nothing but round-off."""

from __future__ import annotations

import copy
import dataclasses
import random

import pytest
import torch
from fixtures import tiny_model, tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    JetMoeConfig,
    LlamaConfig,
    MptConfig,
)

from opcd_bench.distillation import scoring
from opcd_bench.models import adapters, cpu
from opcd_bench.models.loading import assemble
from opcd_bench.rollout import attention
from opcd_bench.rollout.engine import Request, Sampling
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.rollout.prefixes import Prefixes, shared_prefixes

LOADED = assemble("tiny", tiny_model(), tiny_tokenizer())


def ids(rng: random.Random, count: int) -> tuple[int, ...]:
    return tuple(rng.randrange(3, 259) for _ in range(count))


def forwards(monkeypatch, model) -> list[int]:
    """The tokens of each forward pass of a module's decoder."""
    seen: list[int] = []
    inner = model.get_decoder().forward

    def forward(*args, **kwargs):
        seen.append(kwargs["input_ids"].numel())
        return inner(*args, **kwargs)

    monkeypatch.setattr(model.get_decoder(), "forward", forward)
    return seen


# --- which prefixes ---------------------------------------------------------------------------


def test_a_common_context_is_shared_in_whole_blocks():
    rng = random.Random(0)
    context = ids(rng, 70)
    prompts = [context + ids(rng, n) for n in (1, 5, 9)]
    assert shared_prefixes(prompts) == dict.fromkeys(prompts, context[:64])


def test_each_context_of_a_pool_is_a_prefix_of_its_own_below_one_head():
    rng = random.Random(1)
    head, pool = ids(rng, 20), [ids(rng, 96), ids(rng, 200)]
    prompts = [head + context + ids(rng, 10) for context in pool for _ in range(4)]
    found = shared_prefixes(prompts)
    assert {len(prefix) for prefix in found.values()} == {112, 208}
    assert all(prompt[: len(prefix)] == prefix for prompt, prefix in found.items())


def test_samples_of_one_long_prompt_share_all_but_its_last_tokens():
    prompt = ids(random.Random(2), 97)
    assert shared_prefixes([prompt] * 4) == {prompt: prompt[:96]}
    assert shared_prefixes([prompt]) == {prompt: ()}


def test_what_does_not_pay_is_not_shared():
    rng = random.Random(3)
    head = ids(rng, 16)
    prompts = [head + ids(rng, 10) for _ in range(3)]
    assert set(shared_prefixes(prompts).values()) == {()}
    assert shared_prefixes([]) == {}


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=90).map(tuple), max_size=12))
def test_a_prefix_is_the_beginning_of_its_prompt_and_leaves_a_token(prompts):
    for prompt, prefix in shared_prefixes(prompts).items():
        assert prompt[: len(prefix)] == prefix and len(prefix) < len(prompt)


# --- the same numbers -------------------------------------------------------------------------


def case(seed: int, contexts: int, rows: int, length: int):
    """Told prompts of a pool of contexts, some of a single token more, with replies."""
    rng = random.Random(seed)
    head = ids(rng, rng.choice([0, 3, 17]))
    pool = [head + ids(rng, length + 16 * i) for i in range(contexts)]
    prompts = [rng.choice(pool) + ids(rng, rng.choice([1, 2, 13])) for _ in range(rows)]
    if rng.random() < 0.5:
        prompts.append(ids(rng, 1))
    return prompts, [ids(rng, rng.randint(1, 12)) for _ in prompts]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(2, 7), st.sampled_from([33, 64, 130]))
def test_scores_behind_a_shared_prefix_are_those_of_whole_prompts(seed, contexts, rows, length):
    prompts, replies = case(seed, contexts, rows, length)
    prefixes = Prefixes(LOADED)
    prefixes.plan(prompts)
    with torch.no_grad():
        shared = scoring.hidden_states(LOADED, prompts, replies, prefixes)
        whole = scoring.hidden_states(LOADED, prompts, replies)
    assert torch.equal(shared.target_N, whole.target_N)
    assert torch.equal(shared.reply_N, whole.reply_N)
    logits = [scoring.logits(LOADED, states.states_NH) for states in (shared, whole)]
    torch.testing.assert_close(*logits, atol=5e-5, rtol=1e-4)


def pool_requests(count: int = 12) -> list[Request]:
    rng = random.Random(5)
    pool = [ids(rng, 70), ids(rng, 70), ids(rng, 130)]
    told = [Request(pool[i % 3] + ids(rng, 1 + i), i) for i in range(count)]
    return [*told, Request(told[0].prompt_ids, 99), Request(ids(rng, 1), 100)]


@pytest.mark.parametrize("batch_size", [64, 4])
def test_replies_behind_shared_prefixes_are_those_of_single_prompts(batch_size):
    some, sampling = pool_requests(), Sampling(max_completion_length=24)
    many = HFEngine(LOADED, batch_size=batch_size).generate(some, sampling)
    alone = HFEngine(LOADED, batch_size=1)
    for request, reply in zip(some, many, strict=True):
        (single,) = alone.generate([request], sampling)
        assert reply.ids == single.ids
        assert reply.logprobs == pytest.approx(single.logprobs, abs=2e-4)


def test_the_products_that_other_devices_use_give_the_same(monkeypatch):
    """Where there is no fused kernel with masses: plain products, in pieces."""
    prompts, replies = case(7, 2, 6, 64)
    prefixes = Prefixes(LOADED)
    prefixes.plan(prompts)
    with torch.no_grad():
        kernel = scoring.hidden_states(LOADED, prompts, replies, prefixes)
        monkeypatch.setattr(attention, "has_kernel", lambda tensor: False)
        monkeypatch.setattr(attention, "_SCORES", 300)
        plain = scoring.hidden_states(LOADED, prompts, replies, prefixes)
    torch.testing.assert_close(kernel.states_NH, plain.states_NH, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("masked", [False, True])
def test_one_long_row_has_few_scores_alive_too(masked, monkeypatch):
    """As on a GPU, whose kernel does not tell the mass: 40 x 40 tokens of 4 heads in pieces."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 4, 40, 8, generator=generator)
    key = torch.randn(2, 2, 40, 8, generator=generator)
    mask = torch.full((2, 1, 40, 40), -torch.inf).triu_(1) if masked else None
    kernel = attention.own_part(query, key, key, mask)
    alive, scores = [], attention._scores

    def counted(*given):
        found = scores(*given)
        alive.append(found.numel())
        return found

    monkeypatch.setattr(attention, "has_kernel", lambda tensor: False)
    monkeypatch.setattr(attention, "_SCORES", 1000)
    monkeypatch.setattr(attention, "_scores", counted)
    pieces = attention.own_part(query, key, key, mask)
    assert max(alive) <= 1000 and len(alive) > 10
    torch.testing.assert_close(pieces.mixed, kernel.mixed)
    torch.testing.assert_close(pieces.mass, kernel.mass)


def test_processes_that_share_the_prompts_read_ahead_what_pays_for_each_of_them():
    rng = random.Random(11)
    often, seldom = ids(rng, 96), ids(rng, 96)
    prompts = [often + ids(rng, 10) for _ in range(8)] + [seldom + ids(rng, 10) for _ in range(4)]
    prefixes = Prefixes(LOADED)
    prefixes.plan_ahead(prompts, 4)  # of the second each process would read one prompt or none
    assert {prefixes.of(prompt) for prompt in prompts} == {often, ()}
    prefixes.plan_ahead(prompts, 2)
    assert {prefixes.of(prompt) for prompt in prompts} == {often, seldom}
    prefixes.plan_ahead(prompts, 4)  # a resumed run has not read the second, and plans alike
    assert {prefixes.of(prompt) for prompt in prompts} == {often, ()}


def test_bfloat16_is_as_near_as_an_unshared_pass():
    prompts, replies = case(8, 2, 6, 64)
    module = copy.deepcopy(LOADED.model).to(torch.bfloat16)
    coarse = dataclasses.replace(LOADED, model=module, dtype=torch.bfloat16)
    prefixes = Prefixes(coarse)
    prefixes.plan(prompts)
    with torch.no_grad():
        exact = scoring.hidden_states(LOADED, prompts, replies).states_NH
        shared = scoring.hidden_states(coarse, prompts, replies, prefixes).states_NH
        whole = scoring.hidden_states(coarse, prompts, replies).states_NH
    error, known = ((x.float() - exact).abs().mean() for x in (shared, whole))
    assert 0 < error < 1.5 * known


def test_a_teacher_with_an_adapter_reads_its_prefix_with_it():
    peft = pytest.importorskip("peft")
    assert peft
    model = dataclasses.replace(LOADED, model=copy.deepcopy(LOADED.model))
    teacher = adapters.attach(model, rank=2, alpha=4, targets="all-linear", seed=0)
    with torch.no_grad():
        for parameter in adapters.parameters(teacher):
            parameter.normal_(0, 0.2)
    prompts, replies = case(9, 1, 4, 64)
    for reading in (teacher, adapters.before(teacher)):
        prefixes = Prefixes(reading)
        prefixes.plan(prompts)
        with torch.no_grad():
            shared = scoring.hidden_states(reading, prompts, replies, prefixes).states_NH
            whole = scoring.hidden_states(reading, prompts, replies).states_NH
        torch.testing.assert_close(shared, whole, atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("tokens", [1, 5])
def test_attention_does_not_depend_on_how_its_tensors_lie(rows, tokens):
    """PyTorch 2.13's fused kernel does: off by 2 where the last dimension is not contiguous."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = torch.randn(rows, 4, tokens, 32), torch.randn(rows, 2, tokens, 32)
    query, key = whole
    turned = [x.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2) for x in whole]
    assert rows == 1 or turned[0].stride(-1) != 1
    for i in range(rows):
        part = slice(i, i + 1)
        one = attention.of_prefix(query[part], key[:1], key[:1])
        other = attention.of_prefix(turned[0][part], key[:1], key[:1])
        torch.testing.assert_close(one, other)
        one = attention.own_part(query[part], key[part], key[part], None)
        other = attention.own_part(*(x[part] for x in (*turned, turned[1])), None)
        torch.testing.assert_close(one, other)


ARCHITECTURES = {
    "llama": (LlamaConfig, True),
    "gpt_neox": (GPTNeoXConfig, True),
    "gpt2": (GPT2Config, True),
    "granite": (GraniteConfig, True),
    "bloom": (BloomConfig, False),
    "falcon": (FalconConfig, False),
    "mpt": (MptConfig, False),
    "jetmoe": (JetMoeConfig, False),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_architectures_share_or_are_read_whole(name):
    """Position biases and attention of their own cannot be shared: those prompts are read whole."""
    config, shares = ARCHITECTURES[name]
    shape = {"num_key_value_heads": 2} if name in ("llama", "granite") else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(
            config(
                vocab_size=259, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                num_attention_heads=4, max_position_embeddings=512, pad_token_id=0,
                eos_token_id=2, bos_token_id=None, **shape,
            )
        ).eval()  # fmt: skip
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.data.normal_(0, 0.15)
    loaded = assemble(name, model, tiny_tokenizer())
    prompts, replies = case(10, 1, 4, 64)
    prefixes = Prefixes(loaded)
    prefixes.plan(prompts)
    assert any(map(prefixes.of, prompts)) == shares
    with torch.no_grad():
        ours = scoring.hidden_states(loaded, prompts, replies, prefixes).states_NH
        theirs = [
            model.get_decoder()(input_ids=torch.tensor([p + r])).last_hidden_state[
                0, -len(r) - 1 : -1
            ]
            for p, r in zip(prompts, replies, strict=True)
        ]
    torch.testing.assert_close(ours, torch.cat(theirs), atol=5e-5, rtol=1e-4)


def test_a_deep_model_in_bfloat16_shares_though_its_round_off_is_large():
    """SmolLM2's own two attentions differ by a tenth there, and ours is one of them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=259, hidden_size=64, intermediate_size=96, num_hidden_layers=40,
            num_attention_heads=4, num_key_value_heads=2, initializer_range=0.4,
        )  # fmt: skip
        model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16).eval()
    ids = torch.arange(1, 25).view(2, 12)
    with torch.no_grad():
        states = []
        for name in ("sdpa", "eager"):
            model.set_attn_implementation(name)
            states.append(model.model(input_ids=ids).last_hidden_state.float())
    gap = (states[0] - states[1]).abs().mean() / states[0].abs().mean()
    model.set_attn_implementation("sdpa")
    assert gap > 0.05
    assert cpu.plain(model)


# --- read once --------------------------------------------------------------------------------


def test_a_prefix_is_read_once_while_the_weights_stand(monkeypatch):
    prompts, replies = case(11, 1, 6, 64)
    prompts, replies = prompts[:6], replies[:6]
    prefixes = Prefixes(LOADED)
    prefixes.plan(prompts)
    seen = forwards(monkeypatch, LOADED.model)
    with torch.no_grad():
        scoring.hidden_states(LOADED, prompts[:3], replies[:3], prefixes)
        scoring.hidden_states(LOADED, prompts[3:], replies[3:], prefixes)
        assert len(seen) == 3 and seen[0] == len(prefixes.of(prompts[0])) >= 64
        prefixes.forget()
        scoring.hidden_states(LOADED, prompts[:3], replies[:3], prefixes)
    assert len(seen) == 5 and seen[3] == seen[0]


def test_old_prefixes_go_where_too_many_are_kept(monkeypatch):
    rng = random.Random(12)
    pool = [ids(rng, 64) for _ in range(4)]
    prompts = [context + ids(rng, 2) for context in pool for _ in range(3)]
    prefixes = Prefixes(LOADED)
    prefixes.plan(prompts)
    monkeypatch.setattr("opcd_bench.rollout.prefixes._KEPT", 0)
    for context in pool:
        prefixes.segments([p for p in prompts if p[:64] == context])
    assert len(prefixes._read) == 1, "only what the last batch uses"
