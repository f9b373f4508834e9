"""The default engine: what it draws, where it stops, and what it leaves alone."""

from __future__ import annotations

import copy
import dataclasses
import random

import pytest
import torch
from fixtures import tiny_model, tiny_tokenizer
from scipy import stats
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from opcd_bench.errors import DataError, Diverged
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.loading import assemble
from opcd_bench.rollout.draw import draw, kept, uniforms
from opcd_bench.rollout.engine import Request, Sampling
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.rollout.kv import as_argument
from opcd_bench.rollout.prefill import prefill
from opcd_bench.rollout.prefixes import Prefixes


def prompts(count: int, *, low: int = 1, high: int = 40, seed: int = 0) -> list[tuple[int, ...]]:
    rng = random.Random(seed)
    return [tuple(rng.randrange(3, 259) for _ in range(rng.randint(low, high)))
            for _ in range(count)]  # fmt: skip


def requests(some: list[tuple[int, ...]]) -> list[Request]:
    return [Request(prompt, 1000 + i) for i, prompt in enumerate(some)]


def generated_by_transformers(loaded: LoadedModel, prompt: tuple[int, ...], most: int) -> list[int]:
    out = loaded.model.generate(
        torch.tensor([prompt]), max_new_tokens=most, do_sample=False, pad_token_id=0,
        eos_token_id=list(loaded.eos_ids),
    )  # fmt: skip
    return out[0, len(prompt) :].tolist()


def forced_logprobs(loaded: LoadedModel, request: Request, ids: tuple[int, ...], temperature=1.0):
    with torch.no_grad():
        logits = loaded.model(torch.tensor([request.prompt_ids + ids])).logits[0]
    logits = logits[len(request.prompt_ids) - 1 : -1, : loaded.vocab_size]
    logp = (logits / temperature).log_softmax(-1)
    return logp.gather(1, torch.tensor(ids)[:, None])[:, 0]


@pytest.fixture
def wide() -> LoadedModel:
    """The tiny model with 61 rows more in its LM head than the tokenizer knows, made likely."""
    model = tiny_model(vocab_size=320)
    with torch.no_grad():
        model.lm_head.weight[259:] = model.lm_head.weight[3:64] * 3
    return assemble("wide", model, tiny_tokenizer())


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_greedy_equals_generate_token_by_token(tiny_loaded: LoadedModel, batch_size: int) -> None:
    some = prompts(9)
    sampling = Sampling(temperature=0.0, max_completion_length=24)
    replies = HFEngine(tiny_loaded, batch_size=batch_size).generate(requests(some), sampling)
    for prompt, reply in zip(some, replies, strict=True):
        assert list(reply.ids) == generated_by_transformers(tiny_loaded, prompt, 24)


def test_a_reply_ends_with_its_first_end_of_sequence_token_inclusive(
    tiny_loaded: LoadedModel,
) -> None:
    often = dataclasses.replace(tiny_loaded, eos_ids=tuple(range(2, 30)))
    replies = HFEngine(often, batch_size=16).generate(
        requests(prompts(60)), Sampling(max_completion_length=40)
    )
    finishes = {reply.finish for reply in replies}
    assert finishes == {"stop", "length"}
    for reply in replies:
        ends = [i for i, token in enumerate(reply.ids) if token in often.eos_ids]
        if reply.finish == "stop":
            assert ends == [len(reply.ids) - 1]
        else:
            assert not ends
            assert len(reply.ids) == 40
        assert len(reply.logprobs) == len(reply.ids)


def test_a_reply_whose_last_allowed_token_ends_it_has_stopped(tiny_loaded: LoadedModel) -> None:
    every = dataclasses.replace(tiny_loaded, eos_ids=tuple(range(259)))
    (reply,) = HFEngine(every).generate(requests(prompts(1)), Sampling(max_completion_length=1))
    assert (reply.finish, len(reply.ids)) == ("stop", 1)


def test_batch_composition_order_and_size_change_no_token(tiny_loaded: LoadedModel) -> None:
    told = prompts(1, low=50, high=50, seed=9)[0]
    some = requests([*prompts(10), *(told + p for p in prompts(10, seed=3)), told, told])
    sampling = Sampling(temperature=0.9, top_p=0.95, max_completion_length=30)
    reference = HFEngine(tiny_loaded, batch_size=1).generate(some, sampling)
    assert sum(len(reply.ids) for reply in reference) > 400
    for batch_size in (7, 64):
        replies = HFEngine(tiny_loaded, batch_size=batch_size).generate(some, sampling)
        assert [r.ids for r in replies] == [r.ids for r in reference]
    backwards = HFEngine(tiny_loaded, batch_size=16).generate(some[::-1], sampling)[::-1]
    assert [r.ids for r in backwards] == [r.ids for r in reference]


def test_equal_prompts_with_other_seeds_get_other_replies(tiny_loaded: LoadedModel) -> None:
    prompt = prompts(1, low=20)[0]
    replies = HFEngine(tiny_loaded).generate(
        [Request(prompt, seed) for seed in (1, 2, 1)], Sampling(max_completion_length=20)
    )
    assert replies[0] == replies[2]
    assert replies[0].ids != replies[1].ids


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
def test_logprobs_equal_a_teacher_forced_forward(
    tiny_loaded: LoadedModel, temperature: float
) -> None:
    some = requests([*prompts(10), *((5,) * 70 + p for p in prompts(6, seed=2))])
    sampling = Sampling(temperature=temperature, top_k=40, max_completion_length=30)
    for request, reply in zip(some, HFEngine(tiny_loaded).generate(some, sampling), strict=True):
        expected = forced_logprobs(tiny_loaded, request, reply.ids, temperature)
        torch.testing.assert_close(torch.tensor(reply.logprobs), expected, atol=1e-4, rtol=0.0)


def test_greedy_logprobs_are_those_at_temperature_one(tiny_loaded: LoadedModel) -> None:
    (request,) = requests(prompts(1))
    (reply,) = HFEngine(tiny_loaded).generate(
        [request], Sampling(temperature=0.0, max_completion_length=8)
    )
    expected = forced_logprobs(tiny_loaded, request, reply.ids)
    torch.testing.assert_close(torch.tensor(reply.logprobs), expected, atol=1e-4, rtol=0.0)


def test_padded_rows_are_never_written_and_carry_no_mass(wide: LoadedModel) -> None:
    assert (wide.vocab_size, wide.padded_rows) == (259, 61)
    some = requests(prompts(12))
    for sampling in (
        Sampling(max_completion_length=20),
        Sampling(temperature=0.0, max_completion_length=20),
    ):
        for request, reply in zip(some, HFEngine(wide).generate(some, sampling), strict=True):
            assert max(reply.ids) < 259
            expected = forced_logprobs(wide, request, reply.ids)
            torch.testing.assert_close(torch.tensor(reply.logprobs), expected, atol=1e-4, rtol=0.0)


def test_first_tokens_follow_the_softmax(tiny_loaded: LoadedModel) -> None:
    prompt, count = prompts(1, low=12)[0], 6000
    replies = HFEngine(tiny_loaded, batch_size=2000).generate(
        [Request(prompt, seed) for seed in range(count)],
        Sampling(temperature=0.8, max_completion_length=1),
    )
    with torch.no_grad():
        logits = tiny_loaded.model(torch.tensor([prompt])).logits[0, -1]
    expected = (logits / 0.8).softmax(-1).double() * count
    observed = torch.bincount(torch.tensor([r.ids[0] for r in replies]), minlength=259).double()
    common = expected >= 5
    observed = torch.cat([observed[common], observed[~common].sum()[None]])
    expected = torch.cat([expected[common], expected[~common].sum()[None]])
    assert len(expected) > 8
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_top_k_then_top_p_keep_the_smallest_likely_set() -> None:
    probs = torch.tensor([[0.4, 0.05, 0.3, 0.05, 0.2]], dtype=torch.float64)
    as_lists = {
        (2, 1.0): [True, False, True, False, False],
        (0, 0.39): [True, False, False, False, False],
        (0, 0.41): [True, False, True, False, False],
        (0, 0.89): [True, False, True, False, True],
        # After top-k 2 the masses are 4/7 and 3/7: 0.5 is reached by the first alone.
        (2, 0.5): [True, False, False, False, False],
        (4, 1.0): [True, True, True, True, True],  # a tie with the fourth is kept
    }
    for (top_k, top_p), expected in as_lists.items():
        keep = kept(probs, top_k, top_p)
        assert keep is not None
        assert keep[0].tolist() == expected, (top_k, top_p)
    assert kept(probs, 0, 1.0) is None
    assert kept(probs, 5, 1.0) is None


def test_filtered_draws_stay_inside_and_keep_the_full_logprob() -> None:
    logits = torch.tensor([0.4, 0.05, 0.3, 0.05, 0.2]).log().expand(4000, 5)
    noise = torch.from_numpy(uniforms(range(4000), 1)[:, 0])
    ids, logp = draw(logits, noise, Sampling(top_k=3, top_p=0.7))
    counts = torch.bincount(ids, minlength=5).tolist()
    assert counts[1] == counts[3] == counts[4] == 0
    assert stats.chisquare(counts[0:3:2], [4000 * 4 / 7, 4000 * 3 / 7]).pvalue > 1e-3
    torch.testing.assert_close(logp.exp(), logits[0].exp()[ids])


def test_inverse_cdf_takes_the_interval_that_holds_the_uniform() -> None:
    logits = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0]).log().expand(4, 5)
    noise = torch.tensor([0.0, 0.499999, 0.500001, 1 - 2**-52], dtype=torch.float64)
    assert draw(logits, noise, Sampling()).ids_B.tolist() == [1, 1, 3, 3]


def test_a_large_vocabulary_is_drawn_as_if_it_were_summed_token_by_token() -> None:
    rng = torch.Generator().manual_seed(0)
    rows, vocabulary = 256, 3 * 4096 + 77
    logits = torch.randn((rows, vocabulary), generator=rng) * 4
    logits[:, 512:1024] = -torch.inf  # a block without any mass is never drawn
    logits[0] = -torch.inf
    logits[0, -1] = 0.0
    noise = torch.from_numpy(uniforms(range(rows), 1)[:, 0])
    noise[1], noise[2] = 0.0, 1 - 2**-52
    cdf = logits.double().softmax(-1).cumsum(-1)
    expected = torch.searchsorted(cdf, noise[:, None] * cdf[:, -1:], right=True)[:, 0]
    ids, logp = draw(logits, noise, Sampling())
    assert (ids == expected).float().mean() > 0.99  # round-off moves a token now and then
    assert ids[:3].tolist() == expected[:3].tolist()
    chosen = logits.log_softmax(-1).gather(1, ids[:, None])[:, 0]
    assert bool(chosen.isfinite().all())
    torch.testing.assert_close(logp, chosen)


def test_noise_depends_on_seed_and_step_alone_and_is_uniform() -> None:
    noise = uniforms(range(300), 50)
    assert (noise[7:9, :20] == uniforms([7, 8], 20)).all()
    assert len(set(noise.ravel())) == noise.size
    assert stats.kstest(noise.ravel(), "uniform").pvalue > 1e-3
    assert abs(stats.pearsonr(noise[:-1].ravel(), noise[1:].ravel()).statistic) < 0.03
    assert abs(stats.pearsonr(noise[:, :-1].ravel(), noise[:, 1:].ravel()).statistic) < 0.03
    # A constant of the published generator: a change of noise moves every number.
    assert uniforms([0, 2**63 - 1], 2).tolist() == [
        [uniforms([0], 1)[0, 0], noise[0, 1]],
        uniforms([2**63 - 1], 2)[0].tolist(),
    ]


def test_generation_leaves_modes_gradients_and_random_state_alone(
    tiny_loaded: LoadedModel,
) -> None:
    model = tiny_loaded.model
    model.train()
    model.model.layers[1].eval()
    modes = {name: module.training for name, module in model.named_modules()}
    attention = model.config._attn_implementation
    precision = torch.backends.mkldnn.matmul.fp32_precision
    state = torch.get_rng_state()
    some, sampling = requests(prompts(5)), Sampling(max_completion_length=12)
    replies = HFEngine(tiny_loaded).generate(some, sampling)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert model.config._attn_implementation == attention
    assert torch.backends.mkldnn.matmul.fp32_precision == precision
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    # Dropout of 0.1 was off: a teacher-forced forward in eval mode agrees.
    model.eval()
    expected = forced_logprobs(tiny_loaded, some[0], replies[0].ids)
    torch.testing.assert_close(torch.tensor(replies[0].logprobs), expected, atol=1e-4, rtol=0.0)


def test_modes_come_back_when_generation_fails(tiny_loaded: LoadedModel) -> None:
    tiny_loaded.model.train()
    with torch.no_grad():
        tiny_loaded.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(Diverged, match=r"not finite.*leave this one out of --learning-rate"):
        HFEngine(tiny_loaded).generate(requests(prompts(3)), Sampling(max_completion_length=4))
    assert tiny_loaded.model.training
    assert tiny_loaded.model.config._attn_implementation == "sdpa"


def test_the_live_weights_are_used_after_an_optimiser_step(tiny_loaded: LoadedModel) -> None:
    engine, some = HFEngine(tiny_loaded), requests(prompts(3))
    sampling = Sampling(temperature=0.0, max_completion_length=10)
    before = engine.generate(some, sampling)
    optimiser = torch.optim.SGD(tiny_loaded.model.parameters(), lr=0.5)
    tiny_loaded.model(torch.tensor([some[0].prompt_ids])).logits.square().mean().backward()
    optimiser.step()
    after = engine.generate(some, sampling)
    assert before != after
    for request, reply in zip(some, after, strict=True):
        assert list(reply.ids) == generated_by_transformers(tiny_loaded, request.prompt_ids, 10)


def test_a_caller_s_autocast_does_not_reach_the_engine(tiny_loaded: LoadedModel) -> None:
    some, sampling = requests(prompts(4)), Sampling(max_completion_length=12)
    expected = HFEngine(tiny_loaded).generate(some, sampling)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert HFEngine(tiny_loaded).generate(some, sampling) == expected
        loss = tiny_loaded.model(torch.tensor([some[0].prompt_ids])).logits.float().mean()
    loss.backward()
    assert all(p.grad is not None for p in tiny_loaded.model.parameters())


def test_bfloat16_writes_almost_the_same_logprobs(tiny_loaded: LoadedModel) -> None:
    some = requests(prompts(8))
    coarse = copy.deepcopy(tiny_loaded.model).to(torch.bfloat16)
    rounded = dataclasses.replace(tiny_loaded, model=coarse, dtype=torch.bfloat16)
    replies = HFEngine(rounded).generate(some, Sampling(max_completion_length=10))
    for request, reply in zip(some, replies, strict=True):
        expected = forced_logprobs(tiny_loaded, request, reply.ids)
        assert (torch.tensor(reply.logprobs) - expected).abs().mean() < 0.3


def test_prefill_with_a_shared_prefix_and_duplicates_equals_single_forwards(
    tiny_loaded: LoadedModel,
) -> None:
    told = prompts(1, low=80, high=80)[0]
    some = [told + p for p in prompts(5, seed=4)]
    some = [some[2], *some, some[0]]
    prefixes = Prefixes(tiny_loaded)
    prefixes.plan(some)
    with torch.no_grad():
        read = prefill(tiny_loaded, some, prefixes)
        assert read.segments[0].prefix.length == 80
        for row, prompt in enumerate(some):
            single = tiny_loaded.model(torch.tensor([prompt]), use_cache=True)
            torch.testing.assert_close(
                read.logits_BV[row], single.logits[0, -1], atol=2e-5, rtol=1e-4
            )
            slots = read.real_BT[row].nonzero()[:, 0]
            for ours, theirs in zip(read.cache.layers, single.past_key_values.layers, strict=True):
                torch.testing.assert_close(
                    ours.keys[row][:, slots], theirs.keys[0][:, 80:], atol=2e-5, rtol=1e-4
                )


def sliding() -> LoadedModel:
    config = Gemma3TextConfig(
        vocab_size=259, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, sliding_window=8,
        max_position_embeddings=256, pad_token_id=0, eos_token_id=2, bos_token_id=None,
        layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Gemma3ForCausalLM(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.normal_(0.0, 0.3)
    return assemble("sliding", model, tiny_tokenizer())


def test_a_model_with_sliding_layers_is_sampled_through_its_own_cache() -> None:
    loaded = sliding()
    some = requests(prompts(6))
    greedy = Sampling(temperature=0.0, max_completion_length=16)
    for request, reply in zip(some, HFEngine(loaded).generate(some, greedy), strict=True):
        assert list(reply.ids) == generated_by_transformers(loaded, request.prompt_ids, 16)
    for request, reply in zip(
        some, HFEngine(loaded).generate(some, Sampling(max_completion_length=30)), strict=True
    ):
        expected = forced_logprobs(loaded, request, reply.ids)
        torch.testing.assert_close(torch.tensor(reply.logprobs), expected, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("with_layers", ["full", "sliding"])
def test_no_product_gets_a_slice_which_it_would_compute_row_by_row(
    tiny_loaded: LoadedModel, with_layers: str
) -> None:
    loaded = tiny_loaded if with_layers == "full" else sliding()
    sliced: list[str] = []
    hooks = [
        module.register_forward_pre_hook(
            lambda _, args, name=name: None if args[0].is_contiguous() else sliced.append(name)
        )
        for name, module in loaded.model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    try:
        HFEngine(loaded).generate(requests(prompts(6)), Sampling(max_completion_length=4))
    finally:
        for hook in hooks:
            hook.remove()
    assert hooks and not sliced


def test_text_is_decoded_without_special_tokens(tiny_loaded: LoadedModel) -> None:
    often = dataclasses.replace(tiny_loaded, eos_ids=(2, *range(60, 200)))
    (reply,) = HFEngine(often).generate(requests(prompts(1)), Sampling(max_completion_length=30))
    assert reply.text == tiny_loaded.tokenizer.decode(reply.ids, skip_special_tokens=True)
    assert "<|im_end|>" not in reply.text


def test_no_requests_give_no_replies(tiny_loaded: LoadedModel) -> None:
    assert HFEngine(tiny_loaded).generate([], Sampling()) == []


def test_an_empty_prompt_is_refused(tiny_loaded: LoadedModel) -> None:
    with pytest.raises(DataError, match="prompt 0 is empty"):
        HFEngine(tiny_loaded).generate([Request((), 0)], Sampling())


def test_a_prompt_without_room_for_its_reply_is_refused(tiny_loaded: LoadedModel) -> None:
    with pytest.raises(
        DataError, match=r"prompt 1 has 2000 tokens .* can read only 2048 .* = 1792"
    ):
        HFEngine(tiny_loaded).generate(
            [Request((3,), 0), Request((3,) * 2000, 0)], Sampling(max_completion_length=256)
        )


def test_a_cache_goes_by_the_name_that_the_model_gives_it():
    class Now:
        def forward(self, input_ids, cache=None, **kwargs): ...

    class Before:
        def forward(self, input_ids, past_key_values=None, **kwargs): ...

    assert as_argument(Now(), "kv") == {"cache": "kv"}
    assert as_argument(Before(), "kv") == {"past_key_values": "kv"}
