"""Worked numbers: the golden fixture (gradients by complex step) and known counterexamples."""

import json
import math
from pathlib import Path

import pytest
import torch
from loss_checks import close, divergence, gradient, value

from opcd_bench.distillation.losses.diagnostics import support_metrics
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.functional import token_loss

GOLDEN = json.loads((Path(__file__).parents[2] / "data" / "losses_golden.json").read_text())
STUDENT = torch.tensor(GOLDEN["p"], dtype=torch.float64).log()
TEACHER = torch.tensor(GOLDEN["q"], dtype=torch.float64).log()
IDS = [id for id in GOLDEN["losses"] if id != "student_topk_mass"]


def golden_loss(id, support="student_top_k"):
    if id.startswith("jsd_"):
        return named("jsd_b", beta=float(id.removeprefix("jsd_")))
    if id.startswith("skew_"):
        return named(id[:6], alpha=float(id[7:]))
    if id.endswith("full"):
        return named(id)
    return named(id, k=2, support=support, allow_broken=id == "rkl_sg_wrong")


def log(*probabilities):
    return torch.tensor(probabilities, dtype=torch.float64).log()


@pytest.mark.parametrize("support", ["student_top_k", "teacher_top_k", "union", "intersection"])
@pytest.mark.parametrize("id", IDS)
def test_every_golden_value_and_gradient_is_met_on_every_support_with_these_ids(id, support):
    loss = golden_loss(id, support)
    wanted = GOLDEN["losses"][id]
    close(value(loss, STUDENT, TEACHER), torch.tensor(wanted["value"], dtype=torch.float64), 1e-12)
    close(
        gradient(loss, STUDENT, TEACHER),
        torch.tensor(wanted["grad_logits"], dtype=torch.float64),
        1e-12,
    )


@pytest.mark.parametrize(
    ("id", "kind"),
    [
        ("rkl_trunc_naive", "rkl_gen"),
        ("rkl_trunc_sg", "rkl_gen"),
        ("rkl_sg_wrong", "rkl_gen"),
        ("fkl_trunc", "fkl_gen"),
    ],
)
def test_a_truncated_loss_logs_the_generalised_divergence_and_not_its_own_value(id, kind):
    logged = float(divergence(golden_loss(id), STUDENT, TEACHER))
    assert logged == pytest.approx(GOLDEN["losses"][kind]["value"], abs=1e-12)
    assert abs(logged - GOLDEN["losses"][id]["value"]) > 0.04


@pytest.mark.parametrize("id", [i for i in IDS if "trunc" not in i and "wrong" not in i])
def test_a_true_divergence_logs_its_own_value(id):
    logged = float(divergence(golden_loss(id), STUDENT, TEACHER))
    assert logged == pytest.approx(GOLDEN["losses"][id]["value"], abs=1e-12)


def test_the_masses_on_the_support_are_the_fixtures():
    found = support_metrics(STUDENT, TEACHER, golden_loss("rkl_tail"), torch.tensor(0))
    assert float(found.student_mass) == pytest.approx(0.75, abs=1e-12)
    assert float(found.teacher_mass) == pytest.approx(0.70, abs=1e-12)
    assert float(found.support_size) == 2 and float(found.coverage) == 1
    assert float(found.top_k_overlap) == 1
    assert float(found.student_entropy) == pytest.approx(
        -sum(p * math.log(p) for p in GOLDEN["p"]), abs=1e-12
    )


def test_partial_forward_kl_can_exceed_the_full_one():
    """O-10."""
    student, teacher = log(0.02, 0.18, 0.45, 0.35), log(0.05, 0.45, 0.3, 0.2)
    truncated = value(named("fkl_trunc", k=2), student, teacher)
    assert float(truncated) == pytest.approx(0.290691, abs=1e-6)
    assert float(value(named("fkl_full"), student, teacher)) == pytest.approx(0.224583, abs=1e-6)


def test_a_naive_truncated_reverse_kl_can_be_negative_and_is_never_logged_so():
    """O-10."""
    student, teacher = log(0.6, 0.4), log(0.9, 0.1)
    naive = named("rkl_trunc_naive", k=1)
    assert float(value(naive, student, teacher)) == pytest.approx(-0.243279, abs=1e-6)
    assert float(value(named("rkl_full"), student, teacher)) == pytest.approx(0.31123, abs=1e-5)
    assert float(divergence(naive, student, teacher)) == pytest.approx(-0.243279 + 0.3, abs=1e-6)


def test_a_negative_forward_value_keeps_its_gradient():
    """O-17: a clamp at zero would have killed it."""
    student, teacher = log(0.7, 0.2, 0.06, 0.04), log(0.55, 0.25, 0.12, 0.08)
    loss = named("fkl_trunc", k=2)
    assert float(value(loss, student, teacher)) == pytest.approx(-0.0768532, abs=1e-7)
    full = float(value(named("fkl_full"), student, teacher))
    assert full == pytest.approx(0.0617762, abs=1e-7)
    assert float(gradient(loss, student, teacher).abs().max()) > 0.05


def test_pointwise_clipping_turns_the_objective_around():
    """O-18."""
    student, teacher = log(0.5, 0.5), log(0.9, 0.1)
    clipped = named("fkl_clip", clip=0.05, allow_broken=True)
    assert float(value(clipped, student, teacher)) == pytest.approx(-0.1109, abs=1e-4)
    close(
        gradient(clipped, student, teacher), torch.tensor([0.05, -0.05], dtype=torch.float64), 1e-9
    )
    close(
        gradient(named("fkl_full"), student, teacher),
        torch.tensor([-0.4, 0.4], dtype=torch.float64),
        1e-9,
    )
    honest = float(value(named("fkl_full"), student, teacher))
    assert float(divergence(clipped, student, teacher)) == pytest.approx(honest, abs=1e-12)


def test_the_negative_log_likelihood_is_that_of_the_written_token():
    loss = named("nll")
    out = token_loss(loss, STUDENT, None, torch.tensor(2))
    assert float(out.surrogate) == pytest.approx(-float(STUDENT[2]), abs=1e-12)
    assert float(out.divergence) == pytest.approx(-float(STUDENT[2]), abs=1e-12)
    assert loss.metric == "negative_log_likelihood"
    wanted = STUDENT.exp() - torch.nn.functional.one_hot(torch.tensor(2), 4)
    close(gradient(loss, STUDENT, TEACHER, reply=2), wanted)


def _mean_loss(id, teachers, student):
    losses = token_loss(
        named(id), student.expand_as(teachers), teachers, torch.zeros(len(teachers)).long()
    )
    return losses.surrogate.mean()


def _mean_gradient(id, teachers, student):
    z = student.clone().requires_grad_(True)
    return torch.autograd.grad(_mean_loss(id, teachers, z), z)[0]


def test_teachers_with_different_hints_pull_towards_their_geometric_or_arithmetic_mean():
    """O-31: ten teachers, each sure of its own answer."""
    teachers = torch.full((10, 10), 0.01, dtype=torch.float64)
    teachers.fill_diagonal_(0.91)
    logp = teachers.log()
    uniform = torch.full((10,), 0.1, dtype=torch.float64).log()
    for id, floor in (("rkl_full", 1.8515), ("fkl_full", 1.8023)):
        assert float(_mean_gradient(id, logp, uniform).abs().max()) < 1e-12
        assert float(_mean_loss(id, logp, uniform)) == pytest.approx(floor, abs=1e-4)


def test_reverse_kl_amplifies_a_style_that_all_teachers_share_and_forward_kl_does_not():
    """O-31: ten answers at .9 against .1 in all, halved for a token that every teacher likes."""
    answers = torch.full((10, 10), 0.1 / 9, dtype=torch.float64)
    answers.fill_diagonal_(0.9)
    half = torch.full((10, 1), 0.5, dtype=torch.float64)
    logp = torch.cat([half, answers / 2], -1).log()
    geometric = logp.mean(0).log_softmax(-1)
    arithmetic = logp.exp().mean(0).log()
    assert float(geometric[0].exp()) == pytest.approx(0.8529, abs=1e-4)
    assert float(arithmetic[0].exp()) == pytest.approx(0.5, abs=1e-12)
    assert float(_mean_gradient("rkl_full", logp, geometric).abs().max()) < 1e-12
    assert float(_mean_gradient("fkl_full", logp, arithmetic).abs().max()) < 1e-12
    assert float(_mean_gradient("rkl_full", logp, arithmetic).abs().max()) > 0.05
    assert float(_mean_gradient("fkl_full", logp, geometric).abs().max()) > 0.05
