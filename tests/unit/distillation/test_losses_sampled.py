"""Losses of the written token: expectations by exact enumeration, never by sampling."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loss_checks import (
    build,
    cases,
    check_gradient_sums_to_zero,
    check_null,
    check_permutation,
    check_positions_are_independent,
    check_teacher_is_detached,
    close,
    expected_gradient,
    full_gradient,
    logits,
    mask_of,
    on_case,
    pairs,
    quick,
)

from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.functional import from_support, token_loss
from opcd_bench.errors import InvalidLoss

P = torch.tensor([0.45, 0.30, 0.15, 0.10], dtype=torch.float64)
Q = torch.tensor([0.30, 0.40, 0.10, 0.20], dtype=torch.float64)
SAMPLED = ("k1_loss", "k2_loss", "k3_loss", "pg_k1", "pg_k2", "pg_k3", "bern_tail")


def values(loss, student, teacher):
    """Surrogate and divergence with each token written in turn."""
    vocabulary = len(student)
    shape = (vocabulary, vocabulary)
    return token_loss(loss, student.expand(shape), teacher.expand(shape), torch.arange(vocabulary))


def per_sample_gradients(loss, student, teacher):
    """Row y is the logit gradient with y written."""
    vocabulary = len(student)
    z = student.expand(vocabulary, vocabulary).clone().requires_grad_(True)
    out = token_loss(loss, z, teacher.expand(vocabulary, vocabulary), torch.arange(vocabulary))
    return torch.autograd.grad(out.surrogate.sum(), z)[0]


def trace_variance(loss, student, teacher):
    p, rows = student.softmax(-1), per_sample_gradients(loss, student, teacher)
    mean = (p[:, None] * rows).sum(0)
    return float((p[:, None] * (rows - mean).square()).sum())


@quick
@given(pair=pairs())
def test_expected_gradients_of_the_estimators_are_those_of_the_table(pair):
    """O-12: k1 nothing, k2 the reverse KL, k3 the forward KL, pg_k3 their difference."""
    p, q = (x.softmax(-1) for x in pair)
    reverse, forward = full_gradient(p, q), p - q
    close(expected_gradient(build("k1_loss"), *pair), torch.zeros_like(p))
    close(expected_gradient(named("k2_loss"), *pair), reverse, 1e-9)
    close(expected_gradient(named("k3_loss"), *pair), forward, 1e-9)
    close(expected_gradient(named("pg_k1"), *pair), reverse, 1e-9)
    close(expected_gradient(named("pg_k3"), *pair), reverse - forward, 1e-9)
    ratio = p.log() - q.log()
    second = ratio.square() / 2
    close(expected_gradient(named("pg_k2"), *pair), p * (second - (p * second).sum()), 1e-9)


@quick
@given(pair=pairs())
def test_k3_is_non_negative_and_its_mean_is_the_reverse_kl(pair):
    """O-12: it is what every estimator logs; the mean of k2 is another number."""
    p, q = (x.softmax(-1) for x in pair)
    reverse = (p * (p.log() - q.log())).sum()
    for id in ("k2_loss", "k3_loss", "pg_k1", "pg_k2", "pg_k3"):
        logged = values(named(id), *pair).divergence
        assert float(logged.min()) >= 0 and not logged.requires_grad
        close((p * logged).sum(), reverse, 1e-8)
    close((p * values(build("k1_loss"), *pair).surrogate).sum(), reverse, 1e-8)


def test_fixture_a_means_are_the_published_ones():
    """O-12."""
    student, teacher = P.log(), Q.log()
    for id, mean in (
        ("k1_loss", 0.0876597251),
        ("k3_loss", 0.0876597251),
        ("k2_loss", 0.0857573831),
    ):
        found = (P * values(build(id), student, teacher).surrogate).sum()
        assert float(found) == pytest.approx(mean, abs=1e-9)


@quick
@given(pair=pairs(), temperature=st.floats(0.3, 3))
def test_the_likelihood_of_a_teachers_samples_is_its_forward_kl_at_their_temperature(
    pair, temperature
):
    """So SFT has its optimum at the teacher itself."""

    def gradients(student, teacher):
        samples, written = (teacher / temperature).softmax(-1), torch.arange(len(student))
        z = student.clone().requires_grad_(True)
        nll = token_loss(
            named("nll"), (z / temperature).expand(len(z), -1), None, written
        ).surrogate
        kl = token_loss(named("fkl_full"), z / temperature, teacher / temperature, written[0])
        return [torch.autograd.grad(value, z)[0] for value in ((samples * nll).sum(), kl.surrogate)]

    close(*gradients(*pair), 1e-9)
    close(gradients(pair[1], pair[1])[0], torch.zeros_like(pair[1]), 1e-9)


def test_sft_at_temperature_one_has_another_optimum_than_a_teacher_that_samples_at_less():
    data = torch.tensor([0.7, 0.2, 0.07, 0.03], dtype=torch.float64)
    teacher = (0.6 * data.log()).log_softmax(-1)
    assert teacher.exp().tolist() == pytest.approx([0.53, 0.25, 0.13, 0.08], abs=5e-3)
    for at, wanted in ((0.6, teacher), (1.0, data.log())):
        z = wanted.clone().requires_grad_(True)
        nll = token_loss(named("nll"), (z / at).expand(4, -1), None, torch.arange(4)).surrogate
        (gradient,) = torch.autograd.grad((data * nll).sum(), z)
        close(gradient, torch.zeros(4, dtype=torch.float64), 1e-12)


@quick
@given(pair=pairs(), baseline=st.floats(-3, 3))
def test_no_baseline_changes_the_expected_gradient(pair, baseline):
    """O-13."""
    wanted = full_gradient(*(x.softmax(-1) for x in pair))
    close(expected_gradient(named("pg_k1", baseline=baseline), *pair), wanted, 1e-9)
    close(expected_gradient(named("pg_k1", baseline="reverse_kl"), *pair), wanted, 1e-9)


@quick
@given(pair=pairs(), support=st.sampled_from(["student_top_k", "teacher_top_k", "full"]))
def test_a_scalar_of_the_prefix_alone_is_expected_to_do_nothing(pair, support):
    """O-13."""
    options = {"support": "full", "k": None} if support == "full" else {"support": support, "k": 2}
    loss = build("pg_topk_scalar", **options)
    close(expected_gradient(loss, *pair), torch.zeros_like(pair[0]), 1e-11)


@quick
@given(case=cases())
def test_the_hybrid_is_expected_to_be_the_full_gradient_on_any_support(case):
    """O-14; what it logs is expected to be the full reverse KL, and is never negative."""
    if case.kind == "given":
        ids = case.inside.nonzero().squeeze(-1)
        base = named("rkl_hybrid", k=len(ids))

        def loss(student, teacher, reply):
            logp = teacher.log_softmax(-1)
            return from_support(
                base,
                student,
                ids.expand(*reply.shape, -1),
                logp[..., ids],
                reply,
                reply_teacher_logp=logp.gather(-1, reply[..., None])[..., 0],
            )
    else:
        loss = on_case("rkl_hybrid", case)
    found = expected_gradient(loss, case.student, case.teacher)
    close(found, full_gradient(case.p, case.q), 1e-9)
    logged = values(loss, case.student, case.teacher).divergence
    assert float(logged.min()) >= 0
    reverse = (case.p * (case.p.log() - case.q.log())).sum()
    close((case.p * logged).sum(), reverse, 1e-8)


def test_the_hybrid_with_nothing_in_the_support_is_pg_k1_and_with_all_is_exact():
    """O-14: top-1 lists that differ have an empty intersection."""
    student, teacher = P.log(), Q.log()
    empty = named("rkl_hybrid", support="intersection", k=1)
    pg = named("pg_k1")
    close(per_sample_gradients(empty, student, teacher), per_sample_gradients(pg, student, teacher))
    whole = per_sample_gradients(named("rkl_hybrid", k=4), student, teacher)
    close(whole, full_gradient(P, Q).expand(4, 4))


def test_fixture_a_variances_are_the_recorded_ones():
    """O-14: the baseline raises the variance here, the hybrid lowers it."""
    student, teacher = P.log(), Q.log()
    for loss, wanted in (
        (named("pg_k1"), 0.08727),
        (named("pg_k1", baseline="reverse_kl"), 0.09257),
        (named("k3_loss"), 0.1300),
        (named("rkl_hybrid", k=2), 0.07076),
    ):
        assert trace_variance(loss, student, teacher) == pytest.approx(wanted, abs=6e-5)


@quick
@given(pair=pairs())
def test_the_two_bucket_loss_meets_its_formula_for_each_written_token(pair):
    """p_y (e_y - p) (logit p_y - logit q_y)."""
    p, q = (x.softmax(-1) for x in pair)
    logit_gap = p.log() - q.log()
    others = ~torch.eye(len(p), dtype=torch.bool)
    rest_p, rest_q = ((others * x).sum(-1) for x in (p, q))
    logit_gap = logit_gap - (rest_p.log() - rest_q.log())
    wanted = p[:, None] * (torch.eye(len(p)) - p) * logit_gap[:, None]
    close(per_sample_gradients(named("bern_tail"), *pair), wanted, 1e-9)
    out = values(named("bern_tail"), *pair)
    close(out.divergence, p * (p / q).log() + rest_p * (rest_p / rest_q).log(), 1e-9)


@pytest.mark.parametrize("id", ["k2_loss", "k3_loss", "pg_k1", "pg_k2", "pg_k3", "bern_tail"])
@quick
@given(pair=pairs())
def test_equal_models_have_no_gradient_for_any_written_token(id, pair):
    """O-2, per sample and not just on average."""
    for reply in range(len(pair[0])):
        check_null(named(id), pair[0], reply)


@quick
@given(case=cases(kinds=("student_top_k", "teacher_top_k", "union", "intersection")))
def test_the_hybrid_of_equal_models_has_no_gradient_for_any_written_token(case):
    """O-2."""
    for reply in range(len(case.student)):
        check_null(on_case("rkl_hybrid", case), case.student, reply)


@pytest.mark.parametrize("id", SAMPLED)
@quick
@given(pair=pairs(), data=st.data())
def test_sampled_losses_keep_the_common_rules(id, pair, data):
    """O-1, O-26, O-27, for a token drawn at random."""
    reply = data.draw(st.integers(0, len(pair[0]) - 1))
    order = torch.tensor(data.draw(st.permutations(range(len(pair[0])))))
    check_gradient_sums_to_zero(build(id), *pair, reply)
    check_permutation(build(id), *pair, order, reply)
    check_teacher_is_detached(build(id), *pair, reply)


@pytest.mark.parametrize("id", [*SAMPLED, "rkl_hybrid", "pg_topk_scalar", "nll"])
def test_sampled_losses_treat_each_position_by_itself(id):
    """O-21, O-22: changing one position's logits changes that position alone."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 5, 9).double() * 2
    loss = build(id, k=3) if id in ("rkl_hybrid", "pg_topk_scalar") else build(id)
    check_positions_are_independent(loss, student, teacher, torch.randint(9, (5,)))


@quick
@given(pair=pairs(), temperature=st.sampled_from([0.6, 1.3]))
def test_importance_weights_undo_the_samplers_temperature(pair, temperature):
    """O-15."""
    student, teacher = pair
    sampler_logp = (student / temperature).log_softmax(-1)
    wanted = full_gradient(student.softmax(-1), teacher.softmax(-1))
    for loss in (
        named("pg_k1", importance_weight=True),
        named("rkl_hybrid", k=1, importance_weight=True),
    ):
        weighted = expected_gradient(
            loss, student, teacher, sampler_logp.exp(), sampler_logp=sampler_logp
        )
        close(weighted, wanted, 1e-8)


def test_without_weights_or_under_top_p_the_gradient_is_biased():
    """O-15: and k1 differentiated directly sees the sampler alone."""
    student, teacher = P.log(), Q.log()
    wanted = full_gradient(P, Q)
    for temperature in (0.6, 1.3):
        sampler = (student / temperature).softmax(-1)
        found = expected_gradient(named("pg_k1"), student, teacher, sampler)
        assert float((found - wanted).norm() / wanted.norm()) > 0.1
    nucleus = torch.where(P >= 0.15, P, torch.zeros(())) / 0.9
    sampler_logp = nucleus.log().clamp(min=-50)
    weighted = named("pg_k1", importance_weight=True)
    found = expected_gradient(weighted, student, teacher, nucleus, sampler_logp=sampler_logp)
    assert float((found - wanted).norm() / wanted.norm()) > 0.1
    for other in (teacher, torch.zeros_like(teacher)):
        artefact = expected_gradient(build("k1_loss"), student, other, nucleus)
        close(artefact, nucleus - P)
        equal = expected_gradient(named("pg_k1"), student, student, nucleus)
        assert float(equal.abs().max()) < 1e-12


def test_an_importance_weight_without_the_samplers_log_prob_is_refused():
    with pytest.raises(InvalidLoss, match="Pass sampler_logp"):
        token_loss(named("pg_k1", importance_weight=True), P.log(), Q.log(), torch.tensor(0))


@quick
@given(student=logits(3 * 13), teacher=logits(3 * 13))
def test_token_local_losses_give_the_semi_gradient_of_the_sequence_kl(student, teacher):
    """O-16: V = 3, T = 3, all 27 paths of a tabular policy, one row of logits per prefix."""
    rows = [path for n in range(3) for path in itertools.product(range(3), repeat=n)]
    place = {prefix: i for i, prefix in enumerate(rows)}
    z = (student.reshape(13, 3) / 4).requires_grad_(True)
    told = teacher.reshape(13, 3) / 4
    logp, logq = z.log_softmax(-1), told.log_softmax(-1)
    paths = list(itertools.product(range(3), repeat=3))
    visited = torch.tensor([[place[path[:t]] for t in range(3)] for path in paths])
    written = torch.tensor(paths)
    path_logp = logp[visited, written]
    path_ratio = path_logp - logq[visited, written]
    chance = path_logp.sum(-1).exp()
    sequence_kl = (chance * path_ratio.sum(-1)).sum()
    exact = torch.autograd.grad(sequence_kl, z, retain_graph=True)[0]

    local = {}
    for id in ("pg_k1", "k2_loss", "rkl_full"):
        out = token_loss(named(id), z[visited], told[visited], written)
        averaged = (chance.detach() * out.surrogate.sum(-1)).sum()
        local[id] = torch.autograd.grad(averaged, z, retain_graph=True)[0]
    close(local["pg_k1"], local["rkl_full"], 1e-9)
    close(local["k2_loss"], local["rkl_full"], 1e-9)

    divergence_per_step = token_loss(
        named("rkl_full"), z[visited], told[visited], written
    ).divergence
    close((chance.detach() * divergence_per_step.sum(-1)).sum(), sequence_kl.detach(), 1e-9)

    to_go = divergence_per_step.flip(-1).cumsum(-1).flip(-1) - divergence_per_step
    future = (chance.detach() * (path_logp * to_go.detach()).sum(-1)).sum()
    missing = torch.autograd.grad(future, z, retain_graph=True)[0]
    close(exact - local["rkl_full"], missing, 1e-9)

    ratio_to_go = path_ratio.detach().flip(-1).cumsum(-1).flip(-1)
    reinforce = (chance.detach() * (path_logp * ratio_to_go).sum(-1)).sum()
    close(torch.autograd.grad(reinforce, z)[0], exact, 1e-9)


def test_a_support_joined_by_the_written_token_has_it():
    student, teacher = torch.tensor([0.0, 1.0, 2.0, 3.0]).double(), torch.zeros(4).double()
    teacher[0] = 1.0
    joined = named("rkl_gen", support="teacher_top_k_and_sampled", k=1)
    given = named("rkl_gen", support="teacher_top_k", k=2)
    for reply in range(4):
        ids = mask_of(torch.tensor([0, reply]), 4).nonzero().squeeze(-1)
        listed = given if len(ids) == 2 else named("rkl_gen", support="teacher_top_k", k=1)
        wanted = from_support(
            listed, student, ids, teacher.log_softmax(-1)[ids], torch.tensor(reply)
        )
        found = token_loss(joined, student, teacher, torch.tensor(reply))
        close(found.surrogate, wanted.surrogate)
