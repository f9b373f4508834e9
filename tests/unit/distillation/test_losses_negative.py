"""Wrong implementations seen in the wild, each handed to the checkers, which must reject it."""

import pytest
import torch
from loss_checks import (
    Case,
    build,
    check_alive,
    check_finite,
    check_formula,
    check_gradient_sums_to_zero,
    check_honest_log,
    check_null,
    check_permutation,
    check_positions_are_independent,
    check_shift_invariance,
    check_teacher_is_detached,
    close,
    expected_gradient,
    full_gradient,
    gradient,
    mask_of,
    rejected,
)

from opcd_bench.distillation.losses import diagnostics
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.functional import TokenLoss, token_loss
from opcd_bench.errors import InvalidLoss

torch.manual_seed(0)
STUDENT, TEACHER = torch.randn(2, 8).double() * 2
CASE = Case(STUDENT, TEACHER, "student_top_k", 3, mask_of(STUDENT.topk(3).indices, 8))
MODELS = CASE.student, CASE.teacher
BATCH = (*(torch.randn(2, 4, 8).double()), torch.tensor([1, 2, 3, 0]))


def as_loss(function):
    """A wrong loss from a formula of both log-probs; it logs what it differentiates."""

    def loss(student, teacher, reply):
        surrogate = function(student.log_softmax(-1), teacher.log_softmax(-1), reply)
        return TokenLoss(surrogate, surrogate.detach())

    return loss


def on_top_k(function, k=3):
    """The same on the student's top-k."""

    def loss(logp, logq, reply):
        ids = logp.detach().topk(k).indices
        return function(logp.gather(-1, ids), logq.gather(-1, ids))

    return as_loss(loss)


naive = on_top_k(lambda p, q: (p.exp() * (p - q)).sum(-1))
honest = build("rkl_full")


def test_the_checkers_accept_the_right_losses_of_this_file():
    """Or every rejection below would mean nothing."""
    stopped, tail = build("rkl_trunc_sg", "student_top_k", 3), build("rkl_tail", "student_top_k", 3)
    check_formula(stopped, "rkl_trunc_sg", CASE)
    check_formula(tail, "rkl_tail", CASE)
    check_formula(naive, "rkl_trunc_naive", CASE)
    for loss in (stopped, tail, honest):
        check_honest_log(loss, *MODELS)
        check_null(loss, STUDENT)
        check_positions_are_independent(loss, *BATCH)
        check_gradient_sums_to_zero(loss, *MODELS)
        check_teacher_is_detached(loss, *MODELS)


def test_a_naive_truncation_under_the_fixed_losses_name_is_rejected():
    assert rejected(check_formula, naive, "rkl_trunc_sg", CASE)
    assert rejected(check_null, naive, STUDENT)


def test_logging_the_surrogate_is_rejected():
    """Its value is negative here, or not 0 for equal models."""
    reverse_case = torch.tensor([0.6, 0.4]).double().log(), torch.tensor([0.9, 0.1]).double().log()
    one = on_top_k(lambda p, q: (p.exp() * (p - q)).sum(-1), k=1)
    assert rejected(check_honest_log, one, *reverse_case)
    loss = as_loss(lambda p, q, y: -(p.exp() * q).sum(-1))
    assert rejected(check_honest_log, loss, *MODELS)


def test_detaching_the_weight_instead_of_the_log_is_rejected():
    wrong = on_top_k(lambda p, q: (p.exp().detach() * (p - q)).sum(-1))
    assert rejected(check_formula, wrong, "rkl_trunc_sg", CASE)
    assert not rejected(check_formula, wrong, "rkl_sg_wrong", CASE)


def test_swapping_the_arguments_is_rejected():
    forward = as_loss(lambda p, q, y: (q.exp() * (q - p)).sum(-1))
    assert rejected(check_formula, forward, "rkl_full", CASE)


def test_swapping_the_weights_of_the_mixture_is_rejected():
    swapped = build("jsd_b", beta=0.7)
    assert rejected(check_formula, swapped, "jsd_b", CASE)


def test_a_mean_over_positions_inside_the_loss_is_rejected():
    reduced = as_loss(lambda p, q, y: (p.exp() * (p - q)).sum(-1).mean().expand(y.shape))
    assert rejected(check_positions_are_independent, reduced, *BATCH)
    scalar = as_loss(lambda p, q, y: (p.exp() * (p - q)).sum(-1).mean())
    with pytest.raises(InvalidLoss, match=r"has shape \(\), not that of the written ids"):
        check_positions_are_independent(scalar, *BATCH)


def test_a_sum_over_the_batch_hidden_in_the_normaliser_is_rejected():
    wrong = as_loss(lambda p, q, y: (p.exp() * (p - q)).sum(-1) / max(y.numel(), 1))
    assert rejected(check_positions_are_independent, wrong, *BATCH)


def test_a_live_teacher_is_rejected():
    live = as_loss(lambda p, q, y: (p.exp() * (p - q)).sum(-1))
    assert rejected(check_teacher_is_detached, live, *MODELS)


def test_raw_logits_in_place_of_log_probs_are_rejected():
    def unnormalised(student, teacher, reply):
        found = (student.softmax(-1) * (student - teacher)).sum(-1)
        return TokenLoss(found, found.detach())

    assert rejected(check_shift_invariance, unnormalised, *MODELS)


def test_a_gradient_that_skips_the_softmax_is_rejected():
    def wrong(student, teacher, reply):
        total = student.logsumexp(-1, keepdim=True).detach()
        p = student - total
        return TokenLoss((p.exp() * (p - teacher.log_softmax(-1))).sum(-1), p.sum(-1).detach())

    assert rejected(check_gradient_sums_to_zero, wrong, *MODELS)


def test_a_clamp_of_probabilities_is_rejected():
    """P5 of the hazards: below 1e-10 there is no gradient left."""
    student = torch.tensor([0.0, -30.0, -31.0]).double()
    teacher = torch.tensor([-30.0, 0.0, -1.0]).double()
    case = Case(student, teacher, "student_top_k", 3, torch.ones(3, dtype=torch.bool))

    def clamped(p, q, y):
        return (q.exp() * (q - p.exp().clamp(min=1e-10).log())).sum(-1)

    assert rejected(check_formula, as_loss(clamped), "fkl_full", case)
    assert not rejected(check_formula, build("fkl_full"), "fkl_full", case)


def test_a_clamp_of_the_value_at_zero_is_rejected():
    """O-17: the dead zone of a negative truncated forward KL."""
    student = torch.tensor([0.7, 0.2, 0.06, 0.04]).double().log()
    teacher = torch.tensor([0.55, 0.25, 0.12, 0.08]).double().log()

    def dead(student, teacher, reply):
        value = token_loss(
            build("fkl_trunc", "teacher_top_k", 2), student, teacher, reply
        ).surrogate
        return TokenLoss(value.clamp(min=0), value.detach())

    assert rejected(check_alive, dead, student, teacher)
    assert not rejected(check_alive, build("fkl_trunc", "teacher_top_k", 2), student, teacher)


def test_a_tail_from_one_minus_the_mass_is_rejected():
    """O-20."""

    def wrong(p, q):
        tail_p, tail_q = 1 - p.exp().sum(-1), 1 - q.exp().sum(-1)
        return (p.exp() * (p - q)).sum(-1) + tail_p * (tail_p / tail_q).log()

    steep = torch.tensor([30.0, 0.0, -1.0, 0.5])
    for k in (1, 4):
        assert rejected(check_finite, on_top_k(wrong, k), steep, steep * 0.9)
        assert not rejected(check_finite, build("rkl_tail", "student_top_k", k), steep, steep * 0.9)


def test_an_unguarded_minus_infinity_is_rejected():
    """O-23."""
    teacher = TEACHER.clone()
    teacher[5] = -torch.inf
    unguarded = as_loss(lambda p, q, y: (q.exp() * (q - p)).sum(-1))
    assert rejected(check_finite, unguarded, STUDENT, teacher)
    assert not rejected(check_finite, build("fkl_full"), STUDENT, teacher)


def test_a_support_of_all_that_tie_with_the_last_place_is_rejected():
    """P8 of the hazards."""
    student = torch.tensor([2.0, 1.0, 1.0, 1.0, 0.0]).double()
    teacher = torch.tensor([0.0, 1.0, 2.0, 3.0, 1.0]).double()
    case = Case(student, teacher, "student_top_k", 2, mask_of(student.topk(2).indices, 5))

    def enlarged(p, q, y):
        inside = p >= p.topk(2).values[..., -1:]
        return torch.where(inside, p.exp() * (p - q).detach(), 0.0).sum(-1)

    assert rejected(check_formula, as_loss(enlarged), "rkl_trunc_sg", case)
    stopped = build("rkl_trunc_sg", "student_top_k", 2)
    assert not rejected(check_formula, stopped, "rkl_trunc_sg", case)


def test_a_loss_that_knows_token_ids_is_rejected():
    """O-26."""
    skips_padding = as_loss(lambda p, q, y: (p.exp() * (p - q))[..., 1:].sum(-1))
    order = torch.tensor([3, 0, 1, 2, 7, 6, 5, 4])
    assert rejected(check_permutation, skips_padding, *MODELS, order)


def test_the_students_own_log_prob_for_missing_ids_is_rejected():
    """O-19, P4: here teacher ids outside its top-2 are filled."""

    def filled(p, q):
        known = q >= q.topk(2).values[..., -1:]
        return (p.exp() * (p - torch.where(known, q, p)).detach()).sum(-1)

    assert rejected(check_formula, on_top_k(filled, k=3), "rkl_trunc_sg", CASE)


def test_a_renormalised_loss_that_is_not_renormalised_in_the_gradient_is_rejected():
    def wrong(p, q):
        p_norm = p - p.logsumexp(-1, keepdim=True).detach()
        q_norm = q - q.logsumexp(-1, keepdim=True)
        return (p_norm.exp() * (p_norm - q_norm)).sum(-1)

    assert rejected(check_formula, on_top_k(wrong), "rkl_renorm", CASE)


def test_the_estimators_under_each_others_names_are_told_apart():
    """O-12: k1 gives nothing, k3 the forward KL's gradient."""
    wanted = full_gradient(CASE.p, CASE.q)
    assert not rejected(close, expected_gradient(named("k2_loss"), *MODELS), wanted, 1e-9)
    for id in ("k1_loss", "k3_loss", "pg_k3"):
        assert rejected(close, expected_gradient(build(id), *MODELS), wanted, 1e-3)


def test_a_hybrid_that_counts_the_written_token_twice_is_told_apart():
    """O-14: the sampled term belongs outside the support only."""

    def twice(student, teacher, reply):
        exact = token_loss(build("rkl_trunc_sg", "student_top_k", 3), student, teacher, reply)
        sampled = token_loss(named("pg_k1"), student, teacher, reply)
        return TokenLoss(exact.surrogate + sampled.surrogate, exact.divergence)

    wanted = full_gradient(CASE.p, CASE.q)
    assert rejected(close, expected_gradient(twice, *MODELS), wanted, 1e-3)


def test_a_gradient_through_the_coefficient_of_a_policy_gradient_is_told_apart():
    """O-13: the coefficient is detached; live, it adds grad l * log p."""
    live = as_loss(lambda p, q, y: ((p - q) * p).gather(-1, y[..., None])[..., 0])
    assert rejected(close, expected_gradient(live, *MODELS), full_gradient(CASE.p, CASE.q), 1e-3)
    assert float(gradient(live, *MODELS).abs().max()) > 0


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (lambda v: TokenLoss(v.mean(), v.mean().detach()), r"surrogate has shape \(\), not"),
        (lambda v: TokenLoss(v[..., :1], v.detach()), r"surrogate has shape \(2, 1\), not"),
        (lambda v: TokenLoss(v, v.detach().mean()), r"divergence has shape \(\), not"),
        (lambda v: (v, v.detach(), v), "returned a tuple"),
        (lambda _: None, "returned a NoneType"),
        (lambda v: TokenLoss(v, 0.0), "divergence has shape float"),
        (lambda v: TokenLoss(v.detach(), v.detach()), "carries no gradient"),
    ],
)
def test_what_a_contributed_loss_returns_is_checked_where_it_trains(returned, says):
    """A scalar would be broadcast over the tokens, and train something else."""
    student = torch.randn(2, 3, 5).requires_grad_(True)
    teacher, ids = torch.randn(2, 3, 5), torch.zeros(2, 3, dtype=torch.long)

    def loss(student, *_):
        return returned(student.log_softmax(-1).mean(-1))

    for call in (
        lambda: token_loss(loss, student, teacher, ids),
        lambda: diagnostics.measured(loss, student, teacher, ids),
        lambda: diagnostics.measured_alone(loss, student, ids),
    ):
        with pytest.raises(InvalidLoss, match=says):
            call()
