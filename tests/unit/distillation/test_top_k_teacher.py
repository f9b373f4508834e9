"""A teacher behind vLLM: the gradients of a local one, or a refusal that says what would do."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from fixtures import frozen, tiny_model, tiny_tokenizer
from vllm_fake import FakeVLLM

from opcd_bench.config.suite import make_suite
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.policy import Beside
from opcd_bench.distillation.losses.served import served
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.teachers.top_k import TopKTeacher
from opcd_bench.distillation.trainer import TrainingCore
from opcd_bench.errors import DataError, InvalidLoss
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.loading import assemble, copy_frozen
from opcd_bench.rollout.vllm import PromptLogProbs

SUITE = make_suite({"methods": "opcd", "tasks": "rule_math", "micro_batch_size": 3}, "test")


def teacher(tiny: LoadedModel) -> LoadedModel:
    other = copy_frozen(tiny)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return other


def pairs(vocabulary: int) -> list[Pair]:
    generator = torch.Generator().manual_seed(0)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, vocabulary, (n,), generator=generator).tolist())

    return [Pair(f"e{i}", 0, ids(3 + i), ids(9 - i), ids(1 + (3 * i) % 5)) for i in range(5)]


def stepped(tiny: LoadedModel, loss, taught, suite=SUITE):
    """The student's weights after one plain gradient step, and the report."""
    module = copy.deepcopy(tiny.model).requires_grad_(True)
    core = TrainingCore(dataclasses.replace(tiny, model=module), suite, 1e-3)
    core.optimiser = torch.optim.SGD(core.parameters, lr=1.0)
    teacher = taught if isinstance(taught, TopKTeacher) else frozen(taught, core)
    report = core.step(pairs(tiny.vocab_size), loss, teacher)
    return torch.cat([p.detach().flatten() for p in core.parameters]), report


def listed(tiny: LoadedModel, *, arbitrary_ids: bool = False) -> TopKTeacher:
    weights = teacher(tiny)
    fake = FakeVLLM(tiny, arbitrary_ids=arbitrary_ids)
    return TopKTeacher(fake, weights, weights, weights.max_length, SUITE.temperature)


TEACHERS_OWN = [
    named("fkl_gen", k=7),
    named("fkl_tail", k=7),
    named("rkl_hybrid", k=7),
    named("k2_loss"),
]


@pytest.mark.parametrize("loss", TEACHERS_OWN, ids=lambda loss: loss.id)
def test_losses_on_the_teachers_own_list_move_the_student_as_a_local_teacher_does(
    tiny_loaded, loss
):
    local, a = stepped(tiny_loaded, loss, teacher(tiny_loaded))
    served, b = stepped(tiny_loaded, loss, listed(tiny_loaded))
    assert torch.allclose(local, served, atol=2e-5)
    assert not torch.allclose(local, stepped(tiny_loaded, loss, copy_frozen(tiny_loaded))[0])
    assert b.divergence == pytest.approx(a.divergence, rel=1e-4)
    assert b.metrics["coverage"] == 1.0
    assert "reverse_kl" not in b.metrics and "teacher_entropy" not in b.metrics


@pytest.mark.parametrize("support", ["student_top_k", "union"])
def test_student_chosen_ids_are_asked_where_the_engine_scores_any_id(tiny_loaded, support):
    loss = named("rkl_gen", k=6, support=support)
    local, _ = stepped(tiny_loaded, loss, teacher(tiny_loaded))
    served, report = stepped(tiny_loaded, loss, listed(tiny_loaded, arbitrary_ids=True))
    assert torch.allclose(local, served, atol=2e-5)
    assert report.metrics["coverage"] == 1.0
    assert ("top_k_overlap" in report.metrics) == (support == "union")


def test_a_named_policy_for_missing_ids_runs_and_logs_its_coverage(tiny_loaded):
    loss = served(
        named("rkl_gen", k=6, support="student_top_k"), "T", missing_ids="drop", temperature=1.0
    )
    assert loss.missing_ids == "drop"
    _, report = stepped(tiny_loaded, loss, listed(tiny_loaded))
    assert 0.0 < report.metrics["coverage"] < 1.0


class Saying:
    """A vLLM that gives one distribution everywhere, listed as vLLM does: the own token first."""

    name, arbitrary_ids, shared, biases = "vLLM", False, False, True

    def __init__(self, probabilities):
        self.logp = torch.tensor(probabilities, dtype=torch.float64).log()

    def score(self, sequences, top, asked=None):
        likeliest = self.logp.topk(top).indices.tolist()
        found = []
        for sequence in sequences:
            rows = [[own, *(i for i in likeliest if i != own)] for own in sequence[1:]]
            logps = tuple(tuple(self.logp[row].tolist()) for row in rows)
            own = tuple(row[0] for row in logps)
            found.append(PromptLogProbs(own, tuple(map(tuple, rows)), logps))
        return found


@pytest.mark.parametrize("written", [5, 1], ids=["rejected by the teacher", "among the k"])
def test_the_floor_is_of_the_k_likeliest_and_not_of_the_written_token(tiny_loaded, written):
    """O-19, as vLLM gives the list: 0.137 for the true 0.880, which was 12.19 with token 5."""
    p = torch.tensor([[0.05, 0.05, 0.45, 0.25, 0.10, 0.10]])
    teacher = Saying([0.50, 0.30, 0.12, 0.0799, 1e-4, 1e-8])
    listing = TopKTeacher(teacher, None, tiny_loaded, 100, 1.0)
    loss = named("rkl_trunc_sg", k=2, missing_ids="floor")

    class Student:
        device = torch.device("cpu")

    pair = Pair("e", 0, (3, 4), (3, 4, 2), (written,))
    output = listing.score([pair], loss, Student(), step=0)
    student = p.log().requires_grad_(True)
    beside = Beside(None, None)
    surrogate = output.loss(
        loss, student, torch.tensor([written]), slice(0, 1), beside
    ).loss.surrogate
    wanted = 0.45 * math.log(0.45 / 0.30) + 0.25 * math.log(0.25 / 0.30)
    assert float(surrogate.detach()) == pytest.approx(wanted, abs=1e-5)
    surrogate.sum().backward()
    own = 0.45 * (math.log(0.45 / 0.30) - wanted)  # p (m l - F)
    assert float(student.grad[0, 2]) == pytest.approx(own, abs=1e-5)


def test_what_a_listed_teacher_cannot_serve_is_refused_with_what_would_do():
    student_top = named("rkl_gen", k=6, support="student_top_k")
    with pytest.raises(InvalidLoss, match=r"whole distribution.*teacher_engine = 'hf'"):
        served(named("rkl_full"), "I", missing_ids="drop", temperature=1.0)
    with pytest.raises(InvalidLoss, match="missing_ids = 'drop' or 'floor'"):
        served(student_top, "T", missing_ids="refuse", temperature=1.0)
    with pytest.raises(InvalidLoss, match=r"or 'floor'\. It also needs temperature = 1"):
        served(student_top, "T", missing_ids="refuse", temperature=0.6)
    assert served(student_top, "I", missing_ids="refuse", temperature=1.0) is student_top
    with pytest.raises(InvalidLoss, match="Set temperature = 1"):
        served(named("fkl_tail", k=6), "T", missing_ids="refuse", temperature=0.7)
    assert (
        served(named("fkl_renorm", k=6), "T", missing_ids="refuse", temperature=0.7).id
        == "fkl_renorm"
    )


def test_a_renormalised_loss_is_exact_at_another_temperature(tiny_loaded):
    suite = make_suite({"methods": "opcd", "tasks": "rule_math", "temperature": 0.5}, "test")
    loss = named("fkl_renorm", k=7)
    local, _ = stepped(tiny_loaded, loss, teacher(tiny_loaded), suite)
    served, _ = stepped(tiny_loaded, loss, listed(tiny_loaded), suite)
    assert torch.allclose(local, served, atol=2e-5)


def test_a_told_prompt_that_fills_the_window_is_refused(tiny_loaded):
    short = TopKTeacher(FakeVLLM(tiny_loaded), None, tiny_loaded, 10, SUITE.temperature)
    with pytest.raises(DataError, match="leave no room in fake vLLM, which reads 10"):
        stepped(tiny_loaded, named("fkl_gen", k=3), short)


def test_rows_of_the_head_that_no_token_has_are_replaced_on_the_list():
    model = tiny_model(vocab_size=320)
    with torch.no_grad():
        model.lm_head.weight[259:] = model.lm_head.weight[3:64] * 2
    wide = assemble("wide", model, tiny_tokenizer())
    weights = teacher(wide)
    backend = FakeVLLM(wide)
    listing = TopKTeacher(backend, weights, weights, weights.max_length, SUITE.temperature)
    first = backend.score([(5, 9, 7, 3)], 7)[0]
    assert max(map(max, first.ids)) >= 259, "there is padding among the likeliest"
    # A renormalised loss does not see the mass that vLLM gives to padding.
    loss = named("fkl_renorm", k=7)
    local, a = stepped(wide, loss, weights)
    from_list, b = stepped(wide, loss, listing)
    assert torch.allclose(local, from_list, atol=2e-5)
    assert b.divergence == pytest.approx(a.divergence, rel=1e-4)
    some = [(*pair.told_ids, *pair.reply_ids) for pair in pairs(259)]
    lengths = [len(pair.reply_ids) for pair in pairs(259)]
    backend.load(weights)
    for row in (row for one in listing._likeliest(some, lengths, 7) for row in one.ids):
        assert 7 <= len(row) <= 8 and max(row) < 259
