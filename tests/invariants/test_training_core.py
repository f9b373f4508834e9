"""The training core: accumulation, masks, padding, reduction, determinism, non-finite gradients."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import random

import numpy
import pytest
import torch
import transformers
from fixtures import frozen, tiny_model, tiny_tokenizer

from opcd_bench.config.suite import make_suite
from opcd_bench.distillation import checkpoint, noise, scoring
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.functional import TokenLoss
from opcd_bench.distillation.pairs import Pair, end_at_first_eos, micro_batches
from opcd_bench.distillation.teachers.local import LiveTeacher, NoTeacher, Shuffled
from opcd_bench.distillation.trainer import (
    TrainingCore,
    rate_at,
    token_weights,
)
from opcd_bench.errors import ModelError, NonFiniteGradients
from opcd_bench.models import cpu, loading, random_states
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.loading import assemble, copy_frozen
from opcd_bench.rollout import packing
from opcd_bench.runner.models import SuiteModels

LOSS = named("rkl_tail", k=5, support="student_top_k")


def suite(**values):
    base = {"methods": "opcd", "tasks": "rule_math", "learning_rate": 1e-3, "max_steps": 4}
    return make_suite({**base, **values}, "test")


def student(tiny: LoadedModel) -> LoadedModel:
    module = copy.deepcopy(tiny.model).double().requires_grad_(True)
    return dataclasses.replace(tiny, model=module, dtype=torch.float64)


def teacher(tiny: LoadedModel) -> LoadedModel:
    """Another model of the same vocabulary: the student's weights with noise."""
    other = student(tiny)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in other.model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.1 * noise)
    return copy_frozen(other)


def pairs(vocabulary: int) -> list[Pair]:
    """Eight replies of unequal lengths after unequal prompts."""
    generator = torch.Generator().manual_seed(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, vocabulary, (n,), generator=generator).tolist())

    return [
        Pair(f"e{i}", 0, plain_ids=ids(2 + i), told_ids=ids(9 - i), reply_ids=ids(1 + (3 * i) % 7))
        for i in range(8)
    ]


def gradient(tiny: LoadedModel, batch: list[Pair], loss=LOSS, **settings) -> torch.Tensor:
    """The whole gradient of one optimiser step, before the clip, flattened."""
    core = TrainingCore(student(tiny), suite(max_grad_norm=0, **settings), 1e-3)
    seen: list[torch.Tensor] = []
    original = core.optimiser.step
    core.optimiser.step = lambda: seen.append(
        torch.cat([p.grad.flatten() for p in core.parameters])
    )
    core.step(batch, loss, frozen(teacher(tiny), core))
    core.optimiser.step = original
    return seen[0]


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    """To 1e-6 of the norm: transformers' RMSNorm computes in float32 even in a float64 model."""
    return bool((a - b).norm() <= 1e-6 * b.norm())


@pytest.mark.parametrize("reduction", ["token_mean", "sequence_mean"])
def test_one_micro_batch_of_eight_equals_eight_of_one(tiny_loaded, reduction):
    batch = pairs(tiny_loaded.vocab_size)
    whole = gradient(tiny_loaded, batch, micro_batch_size=8, reduction=reduction)
    for size in (1, 3):
        parts = gradient(tiny_loaded, batch, micro_batch_size=size, reduction=reduction)
        assert close(whole, parts)
    for tokens in (1, 12, 10_000):
        parts = gradient(tiny_loaded, batch, micro_batch_tokens=tokens, reduction=reduction)
        assert close(whole, parts)


def test_a_token_budget_takes_as_many_responses_as_fit(tiny_loaded):
    batch = pairs(tiny_loaded.vocab_size)  # of 3, 7, 11, 8, 12, 9, 13 and 10 tokens
    lengths = [len(pair.plain_ids) + len(pair.reply_ids) for pair in batch]
    for budget in (1, 12, 21, 1000):
        runs = micro_batches(batch, suite(micro_batch_tokens=budget, micro_batch_size=2))
        assert [pair for run in runs for pair in batch[run]] == batch
        for run in runs:
            assert sum(lengths[run]) <= budget or len(batch[run]) == 1
        for run, following in itertools.pairwise(runs):
            assert sum(lengths[run]) + lengths[following.start] > budget, "the next fitted too"


def test_a_mean_of_micro_batch_means_would_be_caught(tiny_loaded):
    batch = pairs(tiny_loaded.vocab_size)
    whole = gradient(tiny_loaded, batch, micro_batch_size=8)
    wrong = torch.stack([gradient(tiny_loaded, [pair]) for pair in batch]).mean(0)
    assert not close(whole, wrong)


def test_the_two_reductions_differ_on_unequal_lengths_and_agree_on_equal_ones(tiny_loaded):
    batch = pairs(tiny_loaded.vocab_size)
    token = gradient(tiny_loaded, batch, reduction="token_mean")
    sequence = gradient(tiny_loaded, batch, reduction="sequence_mean")
    assert not close(token, sequence)
    equal = [dataclasses.replace(p, reply_ids=(*p.reply_ids, *range(5, 12))[:4]) for p in batch]
    assert close(
        gradient(tiny_loaded, equal, reduction="token_mean"),
        gradient(tiny_loaded, equal, reduction="sequence_mean"),
    )


def test_the_gradient_is_that_of_the_plain_formula(tiny_loaded):
    """Against autograd over unpadded, unchunked, one-at-a-time passes through the whole model."""
    batch = pairs(tiny_loaded.vocab_size)
    own, told = student(tiny_loaded), teacher(tiny_loaded)
    full = named("rkl_full")
    total = sum(len(pair.reply_ids) for pair in batch)
    loss = torch.zeros((), dtype=torch.float64)
    for pair in batch:
        n = len(pair.reply_ids)
        rows = []
        for loaded, prompt in ((own, pair.plain_ids), (told, pair.told_ids)):
            ids = torch.tensor([[*prompt, *pair.reply_ids]])
            logits = loaded.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
            rows.append(logits[:, : tiny_loaded.vocab_size].log_softmax(-1))
        assert len(rows[0]) == n
        loss = loss + (rows[0].exp() * (rows[0] - rows[1].detach())).sum() / total
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in own.model.parameters()])
    assert close(gradient(tiny_loaded, batch, full), expected)


def test_prompts_carry_no_loss_and_padding_changes_nothing(tiny_loaded):
    """O-22: a longer neighbour in the batch, hence more padding, does not change a reply's loss."""
    loaded = student(tiny_loaded)
    batch = pairs(tiny_loaded.vocab_size)
    alone = scoring.hidden_states(loaded, [batch[0].plain_ids], [batch[0].reply_ids])
    together = scoring.hidden_states(
        loaded, [p.plain_ids for p in batch], [p.reply_ids for p in batch]
    )
    n = len(batch[0].reply_ids)
    assert torch.allclose(alone.states_NH, together.states_NH[:n], atol=1e-5)
    assert together.target_N.tolist() == [t for p in batch for t in p.reply_ids]
    assert len(together.states_NH) == sum(len(p.reply_ids) for p in batch)


def test_a_changed_reply_token_changes_only_the_predictions_after_it(tiny_loaded):
    """O-22: the shift is right, so the state at t predicts token t + 1 and reads up to t."""
    loaded = student(tiny_loaded)
    prompt, reply = (5, 6, 7), (8, 9, 10, 11)
    changed = (8, 9, 12, 11)
    a = scoring.hidden_states(loaded, [prompt], [reply]).states_NH
    b = scoring.hidden_states(loaded, [prompt], [changed]).states_NH
    same = [torch.allclose(x, y, atol=1e-5) for x, y in zip(a, b, strict=True)]
    assert same == [True, True, True, False]


def test_the_first_end_of_sequence_belongs_to_the_reply_and_nothing_after_it():
    assert end_at_first_eos((7, 8, 2, 9, 2), (2, 3)) == (7, 8, 2)
    assert end_at_first_eos((7, 8), (2,)) == (7, 8)
    assert end_at_first_eos((2, 7), (2,)) == (2,)


def test_head_chunks_change_nothing(tiny_loaded, monkeypatch):
    """O-21."""
    batch = pairs(tiny_loaded.vocab_size)
    whole = gradient(tiny_loaded, batch)
    monkeypatch.setattr(scoring, "HEAD_CHUNK", 3)
    assert len(list(scoring.chunks(tiny_loaded, 10))) == 4
    assert close(gradient(tiny_loaded, batch), whole)


def test_padded_embedding_rows_get_no_probability():
    """A head of 320 rows over a tokenizer of 259 tokens: the logits are those of the 259."""
    padded = assemble("padded", tiny_model(vocab_size=320), tiny_tokenizer())
    assert padded.padded_rows == 61
    states = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    expected = states @ padded.model.get_output_embeddings().weight[:259].T
    assert torch.allclose(scoring.logits(padded, states), expected, atol=1e-5)


def test_no_gradient_reaches_the_teacher_and_its_weights_stay(tiny_loaded):
    """O-27."""
    told = teacher(tiny_loaded)
    before = [p.clone() for p in told.model.parameters()]
    core = TrainingCore(student(tiny_loaded), suite(), 1e-2)
    core.step(pairs(tiny_loaded.vocab_size), LOSS, frozen(told, core))
    assert all(p.grad is None for p in told.model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, told.model.parameters(), strict=True))


def test_a_teacher_with_the_students_weights_and_prompt_gives_no_gradient(tiny_loaded):
    """O-28: the null test of the real scoring path, against a shuffled teacher."""
    batch = [dataclasses.replace(p, told_ids=p.plain_ids) for p in pairs(tiny_loaded.vocab_size)]
    norms = {}
    for shuffle in (None, 7):
        core = TrainingCore(student(tiny_loaded), suite(), 1e-3)
        teacher = frozen(copy_frozen(student(tiny_loaded)), core)
        if shuffle is not None:
            teacher = Shuffled(teacher, lambda step: 7)
        report = core.step(batch, LOSS, teacher)
        norms[shuffle] = report.grad_norm
    assert norms[None] < 1e-10
    assert norms[7] > 1e-3


def test_training_towards_the_teacher_lowers_the_divergence(tiny_loaded):
    core = TrainingCore(student(tiny_loaded), suite(max_steps=30, learning_rate=3e-3), 3e-3)
    told, batch = teacher(tiny_loaded), pairs(tiny_loaded.vocab_size)
    reports = [core.step(batch, named("rkl_full"), frozen(told, core)) for _ in range(30)]
    assert reports[-1].divergence < 0.3 * reports[0].divergence
    assert reports[0].divergence_kind == "reverse_kl"


def test_a_live_teacher_in_bfloat16_leaves_every_weight_its_gradient(tiny_loaded):
    module = copy.deepcopy(tiny_loaded.model).to(torch.bfloat16).requires_grad_(True)
    own = dataclasses.replace(tiny_loaded, model=module, dtype=torch.bfloat16)
    core = TrainingCore(own, suite(bf16=True), 1e-3)
    norms: list[float] = []
    core.optimiser.step = lambda: norms.extend(float(p.grad.norm()) for p in core.parameters)
    core.step(pairs(own.vocab_size), named("rkl_full"), LiveTeacher(own, core.suite.temperature))
    assert norms and all(norm > 0 for norm in norms)


class _Broken:
    metric = "broken"

    def __call__(self, student_logits, teacher_logits, reply_ids):
        value = (student_logits * math.nan).sum(-1)
        return TokenLoss(value, torch.zeros_like(value).detach())


def test_non_finite_gradients_move_no_weight_are_counted_and_stop_after_five(tiny_loaded):
    own = student(tiny_loaded)
    before = [p.detach().clone() for p in own.model.parameters()]
    core = TrainingCore(own, suite(), 1e-3)
    batch = pairs(tiny_loaded.vocab_size)
    for expected in range(1, 5):
        report = core.step(batch, _Broken(), frozen(teacher(tiny_loaded), core))
        assert report.skipped
        assert core.skipped == expected
    with pytest.raises(NonFiniteGradients, match=r"5 optimiser steps in a row.*learning_rate"):
        core.step(batch, _Broken(), frozen(teacher(tiny_loaded), core))
    assert all(torch.equal(a, b) for a, b in zip(before, own.model.parameters(), strict=True))


def test_a_finite_step_forgets_the_skipped_ones_before_it(tiny_loaded):
    core = TrainingCore(student(tiny_loaded), suite(), 1e-3)
    batch = pairs(tiny_loaded.vocab_size)
    core.step(batch, _Broken(), frozen(teacher(tiny_loaded), core))
    core.step(batch, LOSS, frozen(teacher(tiny_loaded), core))
    assert (core.skipped, core.skipped_in_a_row) == (1, 0)


def test_a_restored_core_goes_on_bit_for_bit(tiny_loaded, tmp_path):
    batch, told = pairs(tiny_loaded.vocab_size), teacher(tiny_loaded)
    straight = TrainingCore(student(tiny_loaded), suite(), 1e-3)
    for _ in range(4):
        straight.step(batch, LOSS, frozen(told, straight))
    first = TrainingCore(student(tiny_loaded), suite(), 1e-3)
    for _ in range(2):
        first.step(batch, LOSS, frozen(told, first))
    checkpoint.save(first, frozen(told, first), tmp_path)
    second = TrainingCore(student(tiny_loaded), suite(), 1e-3)
    checkpoint.load(second, frozen(told, second), tmp_path)
    for _ in range(2):
        second.step(batch, LOSS, frozen(told, second))
    mine, theirs = straight.student.model.parameters(), second.student.model.parameters()
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


SMALL = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2}
EXPERTS = {"intermediate_size": 32, "num_key_value_heads": 1, "num_local_experts": 4,
           "num_experts_per_tok": 2, "max_position_embeddings": 128}  # fmt: skip
NOISY = {  # where a model has its noise: modules, numbers of modules, its config, or its routers
    "GPT2": {"attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1},
    "OPT": {"dropout": 0.1, "attention_dropout": 0.1, "layerdrop": 0.5,
            "ffn_dim": 32, "word_embed_proj_dim": 16},
    "Bloom": {"hidden_dropout": 0.1, "attention_dropout": 0.1},
    "Falcon": {"hidden_dropout": 0.1, "attention_dropout": 0.1},
    "GPTNeoX": {"hidden_dropout": 0.1, "attention_dropout": 0.1, "intermediate_size": 32},
    "Phimoe": {**EXPERTS},  # by default: it samples experts
    "Mixtral": {**EXPERTS, "router_jitter_noise": 0.05},
    "MiniMax": {**EXPERTS, "router_jitter_noise": 0.05, "head_dim": 8},
    "MiniMaxM2": {**EXPERTS, "router_jitter_noise": 0.05, "head_dim": 8, "rotary_dim": 8},
    "Dbrx": {"d_model": 16, "n_heads": 2, "n_layers": 4, "max_seq_len": 128,
             "tie_word_embeddings": False,
             "attn_config": {"kv_n_heads": 1, "rope_theta": 1e4, "clip_qkv": 8.0},
             "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2,
                            "hidden_size": 16, "moe_jitter_eps": 0.05}},
}  # fmt: skip


@pytest.mark.parametrize("kind", NOISY)
def test_a_model_in_training_computes_what_it_does_in_evaluation(kind):
    config = getattr(transformers, f"{kind}Config")(**SMALL, **NOISY[kind])
    name = "GPT2LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM"
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = getattr(transformers, name)(config).train()
        ids = torch.arange(40)[None]
        one, other = model(ids).logits, model(ids).logits
        assert not torch.equal(one, other), "nothing to switch off"
        evaluated = model.eval()(ids).logits
        noise.disable_dropout(model)
        noise.to_train_mode(model)
        trained = model(ids).logits
        assert torch.equal(trained, model(ids).logits)
        assert torch.equal(trained, model.eval()(ids).logits)
        assert torch.equal(trained, evaluated), "the model itself is another one"


class _Restless(torch.nn.Module):
    """A layer with noise that no name gives away, drawn from one of three generators."""

    def __init__(self, layer, draw):
        super().__init__()
        self.layer, self.draw = layer, draw

    def forward(self, states):
        states = self.layer(states)
        return states * (1 + 0.01 * self.draw()) if self.training else states


DRAWS = {"torch": lambda: torch.rand(()), "numpy": numpy.random.rand, "python": random.random}


@pytest.mark.parametrize("source", DRAWS)
def test_a_student_that_is_random_in_train_mode_is_refused(source, tiny_loaded):
    noise.disable_dropout(tiny_loaded.model)
    tiny_loaded.model.model.layers[0].eval()
    noise.assert_repeatable(tiny_loaded)
    layer = tiny_loaded.model.model.layers[1]
    layer.mlp = _Restless(layer.mlp, DRAWS[source])
    modes = [module.training for module in tiny_loaded.model.modules()]
    before = random_states.now()
    with pytest.raises(ModelError, match=r"neither dropout nor .* config\.json"):
        noise.assert_repeatable(tiny_loaded)
    assert random_states.now() == before
    assert [module.training for module in tiny_loaded.model.modules()] == modes


def test_a_suite_refuses_such_a_student_as_it_loads_it(tiny_model_folder, monkeypatch):
    def restless(*given, load=loading.load, **how):
        loaded = load(*given, **how)
        layer = loaded.model.model.layers[1]
        layer.mlp = _Restless(layer.mlp, DRAWS["torch"])
        return loaded

    SuiteModels(suite(model=str(tiny_model_folder)))  # its dropout is no such noise
    monkeypatch.setattr(loading, "load", restless)
    with pytest.raises(ModelError, match="draws at random"):
        SuiteModels(suite(model=str(tiny_model_folder)))


def test_router_noise_does_not_reach_a_training_step():
    """Two steps on the same replies from the same weights are the same step."""
    settings = {**SMALL, "vocab_size": 259, **NOISY["Phimoe"]}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.PhimoeForCausalLM(transformers.PhimoeConfig(**settings)).eval()
        own = assemble("experts", model, tiny_tokenizer())
        norms = []
        for _ in range(2):
            module = copy.deepcopy(own.model).requires_grad_(True)
            core = TrainingCore(dataclasses.replace(own, model=module), suite(), 1e-3)
            norms.append(core.step(pairs(259), LOSS, frozen(copy_frozen(own), core)).grad_norm)
    assert norms[0] == norms[1] > 0


def test_the_likelihood_is_at_the_temperature_that_responses_are_sampled_at(tiny_loaded):
    core = TrainingCore(student(tiny_loaded), suite(temperature=0.6), 1e-3)
    batch, values = pairs(tiny_loaded.vocab_size), []
    for pair in batch:
        ids = torch.tensor([[*pair.plain_ids, *pair.reply_ids]])
        with torch.no_grad():
            logits_TV = core.student.model(ids).logits[0, len(pair.plain_ids) - 1 : -1]
        logp_TV = (logits_TV[:, : tiny_loaded.vocab_size] / 0.6).log_softmax(-1)
        values.extend(
            (-logp_TV.gather(1, torch.tensor(pair.reply_ids)[:, None])).flatten().tolist()
        )
    report = core.step(batch, named("nll"), NoTeacher(core.student))
    assert report.divergence == pytest.approx(sum(values) / len(values))


def test_rates_follow_the_schedule():
    constant = suite(warmup_steps=2, max_steps=10)
    assert [rate_at(s, 1.0, constant) for s in range(4)] == [0.5, 1.0, 1.0, 1.0]
    cosine = suite(lr_scheduler_type="cosine", max_steps=4)
    assert rate_at(0, 1.0, cosine) == 1.0
    assert rate_at(2, 1.0, cosine) == pytest.approx(0.5)


def test_token_weights_sum_to_one_over_the_tokens():
    batch = pairs(40)
    for reduction in ("token_mean", "sequence_mean"):
        weights = token_weights(batch, reduction)
        total = sum(w * len(p.reply_ids) for w, p in zip(weights, batch, strict=True))
        assert total == pytest.approx(1.0)


@pytest.mark.parametrize("heads", [(2, 1), (4, 2), (2, 2)])
@pytest.mark.parametrize("longest", [1024, 4])
def test_sequences_packed_in_a_row_are_those_read_alone(heads, longest, tiny_loaded, monkeypatch):
    """Values and gradients, in float64: with our attention, and with PyTorch's for long rows."""
    monkeypatch.setattr(cpu, "LONGEST", longest)
    model = tiny_model(num_attention_heads=heads[0], num_key_value_heads=heads[1]).double()
    loaded = dataclasses.replace(tiny_loaded, model=model, dtype=torch.float64)
    batch = pairs(loaded.vocab_size)
    found = []
    for packs in (True, False):
        monkeypatch.setattr(scoring, "_packs", lambda model, packs=packs: packs)
        model.zero_grad()
        states = scoring.plain_states(loaded, batch)
        states.states_NH.pow(2).sum().backward()
        gradients = [p.grad.flatten() for p in model.model.layers.parameters()]
        found.append(torch.cat([states.states_NH.detach().flatten(), *gradients]))
    alone = torch.cat([scoring.plain_states(loaded, [pair]).states_NH for pair in batch])
    assert close(*found) and close(alone.detach().flatten(), found[0][: alone.numel()])


def test_packing_leaves_the_model_as_it_was(tiny_loaded):
    model, batch = tiny_loaded.model, pairs(tiny_loaded.vocab_size)
    before = model.config._attn_implementation
    scoring.plain_states(tiny_loaded, batch).states_NH.sum().backward()
    assert model.config._attn_implementation == before


def test_with_gradient_checkpointing_sequences_are_packed_in_both_passes(tiny_loaded, monkeypatch):
    """The second pass runs in the backward pass, after others have packed otherwise."""
    batch = pairs(tiny_loaded.vocab_size)
    other = batch[:1]
    widths: list[tuple[int, ...]] = []
    original = packing.packed_attention

    def attention(module, query, *rest, **more):
        widths.append(tuple(query.shape))
        return original(module, query, *rest, **more)

    monkeypatch.setattr(packing, "packed_attention", attention)
    found = []
    for checkpointing in (False, True):
        how = suite(gradient_checkpointing=checkpointing)
        core = TrainingCore(student(tiny_loaded), how, 1e-3)
        core.student.model.train()
        widths.clear()
        states = scoring.plain_states(core.student, batch).states_NH
        with torch.no_grad():
            scoring.plain_states(core.student, other)
        layers = len(core.student.model.model.layers)
        assert len(widths) == 2 * layers
        states.pow(2).sum().backward()
        assert len(widths) == (3 if checkpointing else 2) * layers
        assert set(widths[2 * layers :]) <= {widths[0]} != {widths[layers]}
        gradients = [p.grad.flatten() for p in core.student.model.model.layers.parameters()]
        found.append(torch.cat([states.detach().flatten(), *gradients]))
    assert torch.equal(*found), "the same products in the same order"


def test_quick_products_keep_float32_accuracy():
    a = torch.randn(128, 200, generator=torch.Generator().manual_seed(0))
    exact = a.double() @ a.double().T
    with cpu.quick_products():
        assert ((a @ a.T).double() - exact).abs().max() < 1e-3
