"""vLLM as an engine: weights that follow the trainer's, replies, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from fixtures import frozen, tiny_model, tiny_tokenizer
from vllm_fake import FakeVLLM

from opcd_bench.config.suite import make_suite
from opcd_bench.distillation import scoring
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.teachers.top_k import TopKTeacher
from opcd_bench.distillation.trainer import TrainingCore
from opcd_bench.errors import CellFailed, DataError, Diverged, ModelError
from opcd_bench.models import adapters, loading
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.loading import assemble, copy_frozen
from opcd_bench.rollout.engine import Request, Sampling
from opcd_bench.rollout.episodes import play
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.rollout.vllm import MOST_BIASED, RawReply, VLLMEngine, WeightSync, sampling_words
from opcd_bench.rollout.vllm_probe import (
    ANY_PRECISION,
    order_gap,
    probe_gap,
    shared_prefixes,
    verify_order,
)
from opcd_bench.runner import registry
from opcd_bench.runner.parallel import sharded_models
from opcd_bench.runner.parallel.sharded_models import Reading, ShardedModels

GREEDY = Sampling(temperature=0.0, max_completion_length=12)
REQUESTS = [Request((5, 6, 7 + i), 100 + i) for i in range(4)]


def trainable(loaded: LoadedModel) -> LoadedModel:
    module = copy.deepcopy(loaded.model).requires_grad_(True)
    return dataclasses.replace(loaded, model=module)


def nudge(loaded: LoadedModel) -> None:
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.mul_(1.05)


def test_replies_are_those_of_the_hf_engine_with_log_probs_at_temperature_one(tiny_loaded):
    engine = VLLMEngine(tiny_loaded, WeightSync(FakeVLLM(tiny_loaded)))
    sampling = Sampling(temperature=0.5, max_completion_length=12)
    mine, theirs = engine.generate(REQUESTS, sampling), HFEngine(tiny_loaded).generate(
        REQUESTS, sampling
    )  # fmt: skip
    assert [(r.ids, r.text, r.finish) for r in mine] == [(r.ids, r.text, r.finish) for r in theirs]
    assert {r.logprob_temperature for r in mine} == {1.0}
    forced = scoring.hidden_states(tiny_loaded, [REQUESTS[0].prompt_ids], [mine[0].ids])
    logp = scoring.logits(tiny_loaded, forced.states_NH).log_softmax(-1)
    own = logp.gather(-1, forced.target_N[:, None])[:, 0].tolist()
    assert mine[0].logprobs == pytest.approx(own, abs=1e-5)


def test_weights_are_pushed_when_they_have_changed_and_only_then(tiny_loaded):
    student, fake = trainable(tiny_loaded), FakeVLLM(tiny_loaded)
    engine = VLLMEngine(student, WeightSync(fake))
    engine.generate(REQUESTS, GREEDY)
    engine.generate(REQUESTS, GREEDY)
    assert fake.loads == 1
    optimiser = torch.optim.AdamW(student.model.parameters(), lr=0.05)
    student.model(torch.tensor([[5, 6, 7]])).logits.square().mean().backward()
    optimiser.step()
    after = engine.generate(REQUESTS, GREEDY)
    assert fake.loads == 2
    assert [r.ids for r in after] == [r.ids for r in HFEngine(student).generate(REQUESTS, GREEDY)]
    student.model.load_state_dict(tiny_loaded.model.state_dict())
    engine.generate(REQUESTS, GREEDY)
    assert fake.loads == 3


def test_a_new_model_in_the_place_of_a_dead_one_is_pushed(tiny_loaded):
    fake = FakeVLLM(tiny_loaded)
    follower = WeightSync(fake)
    for loads in range(1, 6):  # fresh modules, all at version 0, often at one address
        follower.refresh(trainable(tiny_loaded))
        assert fake.loads == loads


def test_two_models_of_one_kind_take_turns_in_one_vllm(tiny_loaded):
    student = trainable(tiny_loaded)
    nudge(student)
    follower = WeightSync(FakeVLLM(tiny_loaded))
    for loaded in (student, tiny_loaded, student):
        mine = VLLMEngine(loaded, follower).generate(REQUESTS, GREEDY)
        theirs = HFEngine(loaded).generate(REQUESTS, GREEDY)
        assert [r.ids for r in mine] == [r.ids for r in theirs]
    assert follower.backend.loads == 3


def test_an_adapter_that_is_off_is_another_state_of_the_same_module(tiny_loaded):
    student = adapters.attach(trainable(tiny_loaded), rank=2, alpha=4.0, targets="q_proj", seed=0)
    with torch.no_grad():
        for parameter in adapters.parameters(student):
            parameter.add_(0.5)

    class Merged(FakeVLLM):
        def load(self, loaded):
            self.loads += 1
            self.held.model.load_state_dict(adapters.weights(loaded))

    follower = WeightSync(Merged(tiny_loaded))
    follower.refresh(student)
    assert probe_gap(follower.backend, student) < 1e-4
    follower.refresh(adapters.before(student))
    assert follower.backend.loads == 2
    assert probe_gap(follower.backend, student) > 1e-2


def test_a_vllm_that_keeps_stale_weights_never_writes_a_reply(tiny_loaded):
    student = trainable(tiny_loaded)
    engine = VLLMEngine(student, WeightSync(FakeVLLM(tiny_loaded, deaf=True)))
    engine.generate(REQUESTS, GREEDY)
    nudge(student)
    with pytest.raises(ModelError, match="does not have the weights"):
        engine.generate(REQUESTS, GREEDY)


@pytest.fixture
def bf16() -> LoadedModel:
    """Nearly uniform, so that a small step stays within what rounding may do in bfloat16."""
    return assemble("tiny", tiny_model(sharpness=1.0).bfloat16(), tiny_tokenizer())


def step(loaded: LoadedModel, seed: int = 0, scale: float = 0.01) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_((scale * parameter.std() * noise).to(parameter))


class Partly(FakeVLLM):
    """Takes up a share of every change of weights; ``noise`` (nats) is that of its own kernels."""

    def __init__(self, loaded, share, noise=0.0):
        super().__init__(loaded)
        self.share, self.noise = share, noise

    def load(self, loaded):
        self.loads += 1
        new = loaded.model.state_dict()
        for name, held in self.held.model.state_dict().items():
            held.copy_(held + self.share * (new[name] - held))

    def _one(self, sequence, top, asked):
        found = super()._one(sequence, top, asked)
        seed = torch.Generator().manual_seed(hash((sequence, found.own)) % 2**31)
        moved = torch.tensor(found.own) + self.noise * torch.randn(len(found.own), generator=seed)
        return dataclasses.replace(found, own=tuple(moved.tolist()))


@pytest.mark.parametrize(("share", "noise"), [(0.0, 0.0), (0.0, 0.01), (0.2, 0.0)])
def test_in_bfloat16_a_vllm_that_does_not_follow_a_small_step_never_writes_a_reply(
    bf16, share, noise
):
    """The short sequence moves less than rounding may: the last prompts tell."""
    student = trainable(bf16)
    engine = VLLMEngine(student, WeightSync(Partly(bf16, share, noise)))
    engine.generate(REQUESTS, GREEDY)
    step(student)
    assert 1e-3 < probe_gap(FakeVLLM(bf16), student) < ANY_PRECISION
    with pytest.raises(ModelError, match="those that it was given before"):
        engine.generate(REQUESTS, GREEDY)
    with pytest.raises(ModelError, match="those that it was given before"):
        engine.generate(REQUESTS, GREEDY)


@pytest.mark.parametrize("noise", [0.0, 0.003, 0.03])
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e-2])
def test_in_bfloat16_a_vllm_that_follows_writes_on_however_small_the_steps(bf16, noise, scale):
    student, base = trainable(bf16), trainable(bf16)
    follower = WeightSync(Partly(bf16, 1.0, noise))
    for seed in range(6):
        VLLMEngine(student, follower).generate(REQUESTS, GREEDY)
        step(student, seed, scale)
        VLLMEngine(base, follower).generate(REQUESTS, GREEDY)
    assert follower.backend.loads == 12


def test_in_bfloat16_small_steps_of_somebody_else_on_a_server_are_noticed(bf16):
    class Shared(FakeVLLM):
        shared = True

    engine = VLLMEngine(bf16, WeightSync(fake := Shared(bf16)))
    engine.generate(REQUESTS, GREEDY)
    engine.generate(REQUESTS, GREEDY)
    assert fake.loads == 1
    step(fake.held, scale=1e-3)
    assert probe_gap(fake, bf16) < ANY_PRECISION
    engine.generate(REQUESTS, GREEDY)
    assert fake.loads == 2 and probe_gap(fake, bf16) == 0.0


class OnGPU(FakeVLLM):
    """A server that rounds by what is computed at the same time, and otherwise at each call."""

    shared, noise, calls = True, 1e-3, 0

    def score(self, sequences, top, asked=None):
        self.calls += 1
        spread = self.noise * (self.calls % 2) + 0.05 * (len(sequences) - 1)
        return [
            dataclasses.replace(one, own=tuple(x + spread for x in one.own))
            for one in super().score(sequences, top, asked)
        ]


def test_the_noise_of_a_server_is_no_change_of_its_weights(bf16):
    """Of sequences that are asked for one by one, twice after each push."""
    engine = VLLMEngine(bf16, WeightSync(fake := OnGPU(bf16)))
    for _ in range(4):
        engine.generate(REQUESTS, GREEDY)
        fake.calls += 1  # others ask it too
    assert fake.loads == 1
    step(fake.held, scale=1e-2)
    assert 1e-3 < probe_gap(fake, bf16) < ANY_PRECISION
    engine.generate(REQUESTS, GREEDY)
    assert fake.loads == 2


def test_an_adapter_on_bfloat16_that_rounds_away_is_no_error(bf16):
    """The run was warned of it before it began (`rounding_warning`)."""
    pytest.importorskip("peft", reason="LoRA needs peft: pip install 'opcd-bench[lora]'")

    class Rounding(FakeVLLM):
        def load(self, loaded):
            self.loads += 1
            self.held.model.load_state_dict(adapters.weights(adapters.before(loaded)))

    fake = Rounding(bf16)
    student = adapters.attach(trainable(bf16), rank=2, alpha=4, targets="v_proj", seed=0)
    engine = VLLMEngine(student, WeightSync(fake))
    engine.generate(REQUESTS, GREEDY)
    with torch.no_grad():
        for layer in student.adapter.layers:
            layer.lora_B["default"].weight.fill_(0.02)
    assert 1e-3 < probe_gap(fake, student) < ANY_PRECISION
    engine.generate(REQUESTS, GREEDY)
    VLLMEngine(adapters.before(student), engine.sync).generate(REQUESTS, GREEDY)
    assert fake.loads == 3


def test_student_and_teacher_with_the_same_weights_are_one_distribution(tiny_loaded):
    """O-28 through the engine's own path."""
    fake = FakeVLLM(tiny_loaded)
    assert probe_gap(fake, copy_frozen(tiny_loaded)) < 1e-5
    other = trainable(tiny_loaded)
    nudge(other)
    assert probe_gap(fake, other) > 1e-2


@pytest.mark.parametrize(
    ("rows", "kind", "words"),
    [
        (1, Diverged, "bias of -100.*leave this one out of --learning-rate"),
        (MOST_BIASED + 1, CellFailed, "engine = 'hf'"),
    ],
)
def test_a_token_of_the_padding_is_kept_from_vllm_and_refused(tiny_loaded, rows, kind, words):
    """vLLM's V2 model runner takes no more biases; a token of the padding has no text."""

    class Padded(FakeVLLM):
        def write(self, requests, sampling, stop_ids, padding=()):
            assert list(padding) == [tiny_loaded.vocab_size] * (rows == 1)
            return [RawReply((tiny_loaded.vocab_size,), (-1.0,), "length") for _ in requests]

    padded = dataclasses.replace(tiny_loaded, padded_rows=rows)
    with pytest.raises(CellFailed, match=f"LM head is padding.*{words}") as raised:
        VLLMEngine(padded, WeightSync(Padded(tiny_loaded))).generate(REQUESTS, GREEDY)
    assert raised.type is kind


def test_a_vllm_that_takes_no_bias_is_given_none_and_what_it_writes_is_checked(tiny_loaded):
    """It decodes speculatively; a token of the padding is then no sign that weights diverged."""

    class Speculative(FakeVLLM):
        biases, token = False, 5

        def write(self, requests, sampling, stop_ids, padding=()):
            assert tuple(padding) == ()
            return [RawReply((self.token,), (-1.0,), "length") for _ in requests]

    fake = Speculative(tiny_loaded)
    engine = VLLMEngine(dataclasses.replace(tiny_loaded, padded_rows=3), WeightSync(fake))
    assert [reply.ids for reply in engine.generate(REQUESTS, GREEDY)] == [(5,)] * 4
    fake.token = tiny_loaded.vocab_size
    with pytest.raises(CellFailed, match="without speculative_config") as raised:
        engine.generate(REQUESTS, GREEDY)
    assert raised.type is CellFailed


def test_weights_that_have_diverged_are_a_result_of_their_learning_rate(tiny_loaded):
    """Not of vLLM, which is not asked what it makes of them."""

    class Asked(FakeVLLM):
        def score(self, sequences, top, asked=None):
            pytest.fail("a diverged model is not compared")

    student = trainable(tiny_loaded)
    with torch.no_grad():
        student.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(Diverged, match=r"not finite.*leave this one out of --learning-rate"):
        VLLMEngine(student, WeightSync(Asked(tiny_loaded))).generate(REQUESTS, GREEDY)
    for not_finite in (float("nan"), -float("inf")):

        class Spoilt(FakeVLLM):
            def write(self, requests, sampling, stop_ids, padding=(), logp=not_finite):
                return [RawReply((5,), (logp,), "length") for _ in requests]

        with pytest.raises(Diverged, match=r"not finite.*--learning-rate"):
            VLLMEngine(tiny_loaded, WeightSync(Spoilt(tiny_loaded))).generate(REQUESTS, GREEDY)


def test_a_frozen_teacher_that_is_not_finite_is_no_result_of_a_learning_rate(tiny_loaded):
    broken = copy_frozen(tiny_loaded)
    with torch.no_grad():
        broken.model.lm_head.weight.fill_(float("nan"))
    teacher = TopKTeacher(WeightSync(FakeVLLM(tiny_loaded)), broken, broken, 64, 1.0)
    with pytest.raises(ModelError, match=r"teacher .*not finite"):
        teacher.assert_lists(named("rkl_full"))


@pytest.mark.parametrize(
    ("error", "kind"), [(Diverged("far off"), Diverged), (DataError("too long"), CellFailed)]
)
def test_of_several_processes_one_that_fails_says_what_it_was(tiny_loaded, error, kind):
    """A diverged model stays one where its share of the responses was another process's."""

    class Crewed(ShardedModels):
        def __init__(self):
            self.peers = SimpleNamespace(size=2, rank=0, gather=lambda mine: [mine, mine])
            self._whole = {Reading("student"): tiny_loaded}
            self.suite = SimpleNamespace(rollout_batch_size=4)

    def fails(*_):
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded_models, "together", lambda *_: nullcontext())
        patch.setattr(sharded_models, "HFEngine", lambda *_, **__: SimpleNamespace(generate=fails))
        with pytest.raises(CellFailed, match=str(error)) as raised:
            Crewed().write(Reading("student"), REQUESTS, GREEDY)
    assert raised.type is kind


def test_a_request_names_the_padding_and_one_without_has_no_bias():
    words = sampling_words(REQUESTS[0], GREEDY, (2,), range(259, 262))
    assert words["logit_bias"] == {259: -100.0, 260: -100.0, 261: -100.0}
    assert "logit_bias" not in sampling_words(REQUESTS[0], GREEDY, (2,), ())


def test_a_prompt_that_leaves_no_room_is_refused_as_by_the_hf_engine():
    small = assemble("small", tiny_model(max_position_embeddings=16), tiny_tokenizer())
    engine = VLLMEngine(small, WeightSync(FakeVLLM(small)))
    with pytest.raises(DataError, match="can read only 16 in total"):
        engine.generate([Request((5,) * 8, 0)], GREEDY)


def test_the_sampler_trainer_gap_is_measured_at_the_temperature_of_the_writers_log_probs(
    tiny_loaded,
):
    values = {"methods": "opcd", "tasks": "rule_math", "temperature": 0.5}
    student = trainable(tiny_loaded)
    engine = VLLMEngine(student, WeightSync(FakeVLLM(tiny_loaded)))
    replies = engine.generate(REQUESTS, Sampling(0.5, max_completion_length=8))

    def gap(written_temperature):
        pairs = [
            Pair(f"e{i}", 0, q.prompt_ids, q.prompt_ids, r.ids, r.logprobs, written_temperature)
            for i, (q, r) in enumerate(zip(REQUESTS, replies, strict=True))
        ]
        core = TrainingCore(trainable(tiny_loaded), make_suite(values, "test"), 1e-5)
        report = core.step(pairs, named("rkl_full"), frozen(copy_frozen(tiny_loaded), core))
        return report.metrics["sampler_trainer_gap"]

    assert gap(replies[0].logprob_temperature) < 1e-4
    assert gap(None) > 0.05


def test_games_of_many_turns_are_played_as_by_the_hf_engine():
    micro = loading.load("micro-small", device="cpu", dtype="float32")
    task = registry.task("frozen_lake")
    examples = list(task.examples("dev")[:2])
    words = {"seeds": [1, 2], "env_seeds": [3, 4], "context": task.context()}
    greedy = Sampling(temperature=0.0, max_completion_length=128)
    engines = VLLMEngine(micro, WeightSync(FakeVLLM(micro))), HFEngine(micro)
    mine, theirs = (play(task, examples, engine, micro, greedy, **words) for engine in engines)
    for one, other in zip(mine, theirs, strict=True):
        assert [turn.reply.ids for turn in one.turns] == [turn.reply.ids for turn in other.turns]
        assert one.grade == other.grade
    assert max(len(one.turns) for one in mine) > 1


def test_an_optimiser_that_counts_no_change_still_moves_the_weights_that_write(tiny_loaded):
    """bitsandbytes changes weights behind autograd's back; the training core counts for it."""

    class Silent(torch.optim.SGD):
        def step(self, closure=None):
            for parameter in self.param_groups[0]["params"]:
                parameter.data.add_(parameter.grad, alpha=-0.5)

    student, fake = trainable(tiny_loaded), FakeVLLM(tiny_loaded)
    engine = VLLMEngine(student, WeightSync(fake))
    core = TrainingCore(student, make_suite({"methods": "opcd", "tasks": "rule_math"}, "t"), 1e-3)
    core.optimiser = Silent(core.parameters, lr=0.5)
    reply = engine.generate(REQUESTS[:1], GREEDY)[0]
    pair = Pair("e", 0, REQUESTS[0].prompt_ids, (9, *REQUESTS[0].prompt_ids), reply.ids)
    core.step([pair], named("rkl_full"), frozen(copy_frozen(tiny_loaded), core))
    engine.generate(REQUESTS[:1], GREEDY)
    assert fake.loads == 2 and probe_gap(fake, student) < 1e-4


class Caching(FakeVLLM):
    """A prefix cache that spoils what follows the blocks that an earlier request left."""

    BLOCK = 16

    def __init__(self, loaded):
        super().__init__(loaded)
        self.blocks = set()

    def _one(self, sequence, top, asked):
        found = super()._one(sequence, top, asked)
        whole = range(self.BLOCK, len(sequence), self.BLOCK)  # the last token is always computed
        reused = max((end for end in whole if tuple(sequence[:end]) in self.blocks), default=0)
        self.blocks |= {tuple(sequence[:end]) for end in whole}
        if reused < 2 * self.BLOCK:
            return found
        own = tuple(x - 0.01 * (place >= reused) for place, x in enumerate(found.own))
        return dataclasses.replace(found, own=own)


def test_a_prefix_cache_that_moves_log_probs_is_seen_where_sequences_share_blocks(tiny_loaded):
    sequences = shared_prefixes(tiny_loaded)
    assert len(set(sequences)) == 8 and {len(one) for one in sequences} == {88}
    assert len({one[:80] for one in sequences}) == 1
    fake = Caching(tiny_loaded)
    assert probe_gap(fake, tiny_loaded) < 1e-5 < 5e-3 < order_gap(fake, tiny_loaded)
    words = r"fake vLLM .*depend on the requests before.*--no-enable-prefix-caching"
    with pytest.raises(ModelError, match=words):
        verify_order(fake, tiny_loaded, tiny_loaded)
    assert order_gap(FakeVLLM(tiny_loaded), tiny_loaded) < 1e-5
    verify_order(FakeVLLM(tiny_loaded), tiny_loaded, tiny_loaded)


def test_a_teacher_whose_weights_are_not_here_is_probed_in_both_orders(tiny_loaded):
    class Turned(FakeVLLM):
        """What comes first is scored otherwise."""

        def score(self, sequences, top, asked=None):
            first, *others = super().score(sequences, top, asked)
            return [dataclasses.replace(first, own=tuple(x - 1 for x in first.own)), *others]

    with pytest.raises(ModelError, match="depend on the requests before"):
        verify_order(Turned(tiny_loaded), None, tiny_loaded)
    verify_order(FakeVLLM(tiny_loaded), None, tiny_loaded)


def test_the_probe_stays_within_a_small_window():
    small = assemble("small", tiny_model(max_position_embeddings=24), tiny_tokenizer())
    assert {len(one) for one in shared_prefixes(small)} == {23}
    verify_order(FakeVLLM(small), small, small)
