"""On a GPU the same is shared and packed as on a CPU, with the same numbers, and nothing strays."""

import random

import pytest
import torch
from fixtures import tiny_model, tiny_tokenizer
from pretended_gpu import GPU, OnGpu, PretendedGpu, sent

from opcd_bench.distillation import scoring
from opcd_bench.models import cpu
from opcd_bench.models.loading import assemble
from opcd_bench.rollout.engine import Request, Sampling
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.rollout.prefixes import Prefixes

SHAPES = {"one head shared": {}, "groups": {"num_attention_heads": 4, "num_key_value_heads": 2}}


@pytest.fixture(params=SHAPES)
def loaded(request):
    return assemble("tiny", tiny_model(**SHAPES[request.param]), tiny_tokenizer())


@pytest.fixture
def gpu():
    cpu._bias.cache_clear()
    with PretendedGpu(), torch.no_grad():
        yield
    cpu._bias.cache_clear()


def told(count=5):
    """Prompts behind one context, and one behind none."""
    rng = random.Random(0)
    context = tuple(rng.randrange(3, 259) for _ in range(80))
    own = [tuple(rng.randrange(3, 259) for _ in range(1 + i)) for i in range(count)]
    return [*(context + some for some in own), own[2]]


def test_tensors_of_two_devices_do_not_mix(gpu):
    there, here = torch.ones(2, 2, device=GPU), torch.ones(2, 2)
    assert isinstance(there, OnGpu) and (there + 1).device == GPU and there.cpu().equal(here)
    assert isinstance(torch.tensor([1, 2], device=GPU), OnGpu)
    for mixed in (
        lambda: there + here,
        lambda: torch.baddbmm(here[None], there[None], there[None]),
        lambda: there[torch.zeros(1, dtype=torch.long)],
    ):
        with pytest.raises(RuntimeError, match="on the same device"):
            mixed()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_causal_attention_is_that_of_a_cpu(gpu, dtype):
    generator = torch.Generator().manual_seed(0)
    here = [torch.randn(2, heads, 7, 16, generator=generator).to(dtype) for heads in (4, 2, 2)]
    wanted, _ = cpu.causal_attention(torch.nn.Identity(), *here, None)
    found, _ = cpu.causal_attention(torch.nn.Identity(), *(x.to(GPU) for x in here), None)
    assert found.device == GPU
    torch.testing.assert_close(found.cpu(), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_s_attention_is_known(gpu, loaded, dtype):
    loaded.model.to(dtype)
    assert cpu.plain(sent(loaded).model)


@pytest.mark.parametrize("shares", [False, True])
def test_replies_are_scored_in_packed_rows_behind_what_their_prompts_share(gpu, loaded, shares):
    prompts = told()
    replies = [prompt[:3] for prompt in prompts]
    there, read = sent(loaded), []
    there.model.get_decoder().register_forward_pre_hook(
        lambda module, args, words: read.append(words["input_ids"].numel()), with_kwargs=True
    )
    prefixes = Prefixes(there)
    prefixes.plan(prompts)
    read.clear()
    found = scoring.hidden_states(there, prompts, replies, prefixes if shares else None)
    own = sum(map(len, prompts + replies))
    assert read == ([80, own - 5 * 80] if shares else [own]), "one row, without padding"
    wanted = scoring.hidden_states(loaded, prompts, replies)
    assert {x.device for x in vars(found).values()} == {GPU}
    torch.testing.assert_close(found.states_NH.cpu(), wanted.states_NH, atol=5e-5, rtol=1e-4)
    scoring.assert_faithful(there)


def test_replies_are_those_of_a_cpu(gpu, loaded):
    requests = [Request(prompt, seed) for seed, prompt in enumerate(told())]
    sampling = Sampling(max_completion_length=12)
    found = HFEngine(sent(loaded), batch_size=4).generate(requests, sampling)
    wanted = HFEngine(loaded, batch_size=4).generate(requests, sampling)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.ids == theirs.ids
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=2e-4)
