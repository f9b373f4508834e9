"""The audit of gradients: known biases come out as they were derived."""

import math

import pytest
import torch
from loss_checks import build, closed_form, full_gradient, gradient

from opcd_bench.distillation.losses import audit
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.functional import token_loss
from opcd_bench.errors import InvalidLoss

P = torch.tensor([0.45, 0.30, 0.15, 0.10], dtype=torch.float64)
Q = torch.tensor([0.30, 0.40, 0.10, 0.20], dtype=torch.float64)
REPLY = torch.tensor([0])


def one(loss, student=None, teacher=None, **options):
    student = P.log()[None] if student is None else student
    teacher = Q.log()[None] if teacher is None else teacher
    reply = torch.zeros(student.shape[:-1], dtype=torch.long)
    return audit.rows([loss], student, teacher, reply, **options)[0]


def batch(count=6, vocabulary=20):
    generator = torch.Generator().manual_seed(0)
    teacher = 2 * torch.randn(count, vocabulary, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, vocabulary, generator=generator, dtype=torch.float64)
    return teacher + 0.5 * noise, teacher


@pytest.mark.parametrize(
    "loss",
    [
        named("rkl_full"),
        named("k2_loss"),
        named("pg_k1"),
        named("pg_k1", baseline="reverse_kl"),
        named("pg_k1", importance_weight=True),
        named("rkl_hybrid", k=3),
        named("rkl_hybrid", k=3, support="student_top_k", importance_weight=True),
        named("rkl_tail", k=20),
        named("rkl_tail", k=19),
    ],
    ids=lambda loss: loss.id,
)
def test_losses_with_the_full_gradient_have_no_bias(loss):
    row = one(loss, *batch())
    assert row.cosine == pytest.approx(1, abs=1e-12)
    assert row.norm_ratio == pytest.approx(1, abs=1e-12)
    assert row.bias_ratio == pytest.approx(0, abs=1e-7)
    assert row.no_gradient_share == 0


@pytest.mark.parametrize("id", ["rkl_trunc_naive", "rkl_trunc_sg", "rkl_tail", "rkl_renorm"])
def test_a_truncated_losses_row_is_that_of_its_closed_form(id):
    from loss_checks import Case, mask_of

    case = Case(P.log(), Q.log(), "student_top_k", 2, mask_of(torch.tensor([0, 1]), 4))
    g, full = closed_form(id, case)[1], full_gradient(P, Q)
    row = one(named(id, k=2))
    assert row.averaged == "exact" and row.positions == 1
    assert row.bias_ratio == pytest.approx(float((g - full).norm() / full.norm()), abs=1e-12)
    assert row.norm_ratio == pytest.approx(float(g.norm() / full.norm()), abs=1e-12)
    assert row.cosine == pytest.approx(float(g @ full / (g.norm() * full.norm())), abs=1e-12)
    assert row.student_mass_outside == pytest.approx(0.25, abs=1e-12)
    assert row.teacher_mass_outside == pytest.approx(0.30, abs=1e-12)


@pytest.mark.parametrize(
    "loss", [build("k1_loss"), build("pg_topk_scalar", k=3)], ids=lambda loss: loss.id
)
def test_losses_without_a_signal_have_no_direction(loss):
    row = one(loss, *batch())
    assert row.averaged == "student"
    assert row.cosine is None
    assert row.norm_ratio == pytest.approx(0, abs=1e-12)
    assert row.bias_ratio == pytest.approx(1, abs=1e-12)
    assert row.no_gradient_share == 1


def test_k3_and_the_likelihood_of_the_teachers_words_pull_as_the_forward_kl():
    forward = one(named("fkl_full"), *batch())
    for loss, writer in ((named("k3_loss"), "student"), (named("nll"), "teacher")):
        row = one(loss, *batch())
        assert row.averaged == writer
        assert row.cosine == pytest.approx(forward.cosine, abs=1e-12)
        assert row.bias_ratio == pytest.approx(forward.bias_ratio, abs=1e-12)
    assert 0.1 < forward.bias_ratio < 2


def test_the_bias_of_the_naive_loss_grows_with_the_mass_outside():
    """Against the stop-gradient, which has only the tail's inside to miss."""
    student, teacher = batch(50, 200)
    biases = [
        [one(named(id, k=k), student, teacher).bias_ratio for k in (2, 20, 200)]
        for id in ("rkl_trunc_naive", "rkl_trunc_sg")
    ]
    assert all(
        naive > stopped + 0.1 for naive, stopped in zip(*biases, strict=True) if stopped > 1e-9
    )
    assert biases[0][2] < 1e-9 and biases[1][2] < 1e-9


def test_positions_without_a_gradient_are_counted():
    """On an empty intersection there is none; a batch of one live and one dead position is half."""
    student = torch.tensor([[5.0, 4.0, 0.0, -1.0], [5.0, 4.0, 0.0, -1.0]]).double()
    teacher = torch.tensor([[4.0, 5.0, 0.0, -1.0], [-1.0, 0.0, 4.0, 5.0]]).double()
    row = one(named("rkl_gen", support="intersection", k=2), student, teacher)
    assert row.no_gradient_share == 0.5
    assert row.positions == 2


def test_equal_models_give_no_ratios_and_no_nan():
    student, _ = batch()
    row = one(named("rkl_trunc_naive", k=3), student, student)
    assert row.no_gradient_share is None
    for found in (row.cosine, row.norm_ratio, row.bias_ratio):
        assert found is None or math.isfinite(found)


def test_a_large_vocabulary_is_averaged_over_the_stored_replies_and_says_so():
    student, teacher = batch(4, 30)
    reply = torch.tensor([1, 2, 3, 4])
    row = audit.rows([named("k2_loss")], student, teacher, reply, enumerate_up_to=29)[0]
    assert row.averaged == "replies"
    z = student.clone().requires_grad_(True)
    g = torch.autograd.grad(token_loss(named("k2_loss"), z, teacher, reply).surrogate.sum(), z)[0]
    full = gradient(named("rkl_full"), student, teacher)
    assert row.norm_ratio == pytest.approx(float(g.norm() / full.norm()), rel=1e-12)


def test_enumeration_in_blocks_changes_nothing(monkeypatch):
    student, teacher = batch(5, 12)
    whole = one(named("k2_loss"), student, teacher, enumerate_up_to=12)
    hybrid = one(named("rkl_hybrid", k=2), student, teacher)
    monkeypatch.setattr(audit, "_WORDS_PER_PASS", 12 * 5)
    for wanted in (whole, hybrid):
        row = one(wanted.loss, student, teacher)
        assert row.norm_ratio == pytest.approx(wanted.norm_ratio, abs=1e-12)
        assert row.bias_ratio == pytest.approx(wanted.bias_ratio, abs=1e-12)


def test_batches_of_any_shape_and_type_are_read_in_float64():
    student, teacher = batch()
    flat = one(named("rkl_tail", k=3), student.float(), teacher.float())
    folded = one(
        named("rkl_tail", k=3), student.float().view(2, 3, -1), teacher.float().view(2, 3, -1)
    )
    assert folded == flat
    assert flat.bias_ratio == pytest.approx(
        one(named("rkl_tail", k=3), student, teacher).bias_ratio, rel=1e-5
    )


def test_bad_batches_are_refused():
    with pytest.raises(ValueError, match="no positions"):
        audit.rows([], torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
    with pytest.raises(ValueError, match="must be"):
        audit.rows([], torch.zeros(2, 4), torch.zeros(2, 5), torch.zeros(2, dtype=torch.long))
    with pytest.raises(InvalidLoss, match="above the vocabulary"):
        one(named("rkl_tail", k=5))
