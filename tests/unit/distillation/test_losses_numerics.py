"""Precision, masked vocabularies, ties, memory and served teachers' missing ids."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from loss_checks import (
    FULL,
    TRUNCATED,
    build,
    check_finite,
    close,
    divergence,
    gradient,
    pairs,
    quick,
    value,
)

from opcd_bench.distillation.losses.diagnostics import support_metrics, support_metrics_from_support
from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.functional import from_support, token_loss
from opcd_bench.distillation.losses.sources import FromList
from opcd_bench.distillation.losses.supports import LOG_PROB_FLOOR
from opcd_bench.errors import InvalidLoss

SAMPLED = ("k1_loss", "k2_loss", "k3_loss", "pg_k1", "pg_k2", "pg_k3", "bern_tail", "nll")
EVERY = TRUNCATED + FULL + SAMPLED + ("rkl_hybrid", "jsd_tail", "skew_f_tail", "skew_r_renorm")
SUPPORTED = (*TRUNCATED, "rkl_hybrid", "jsd_tail", "skew_f_tail", "skew_r_renorm")


def any_loss(id, k=3, support="student_top_k"):
    return build(id, support, k) if id in SUPPORTED else build(id)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("id", EVERY)
def test_logit_gaps_of_thirty_leave_values_and_gradients_finite(id, dtype):
    """O-20: from both sides, at every k up to the vocabulary."""
    steep = torch.tensor([30.0, 0.0, -1.0, 0.5, -30.0], dtype=dtype)
    for student, teacher in ((steep, steep.flip(0)), (steep, steep * 0.1), (steep * 0, steep)):
        for k in range(1, 6):
            if k == 1 and "renorm" in id:
                continue
            check_finite(any_loss(id, k), student, teacher, reply=4)
            check_finite(any_loss(id, k, "teacher_top_k"), student, teacher, reply=0)


def test_the_tail_bucket_keeps_its_digits_where_the_support_has_nearly_all_mass():
    """O-20: 1 - P_S would be 0 or garbage in float32; the complement is not."""
    student = torch.tensor([30.0, 0.0, -1.0, -2.0])
    teacher = torch.tensor([25.0, 1.0, -1.0, 3.0])
    for id in ("rkl_tail", "fkl_tail"):
        loss = named(id, k=1, support="student_top_k")
        coarse = gradient(loss, student, teacher).double()[1:]
        fine = gradient(loss, student.double(), teacher.double())[1:]
        assert float((coarse / fine - 1).abs().max()) < 1e-4
    tail = value(
        named("fkl_tail", k=1, support="student_top_k"), student.double(), teacher.double()
    )
    full = value(named("fkl_full"), student.double(), teacher.double())
    assert float(tail) <= float(full)


@quick
@given(pair=pairs())
def test_the_tail_bound_holds_to_the_last_digits(pair):
    """O-20: with 1 - P_S it was off by 5.6e-12, seen as a violated ordering."""
    for k in range(1, len(pair[0]) + 1):
        tail = float(value(named("rkl_tail", k=k), *pair))
        full = float(value(named("rkl_full"), *pair))
        assert tail <= full + 4e-15 * (1 + full) * len(pair[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("id", EVERY)
def test_half_precision_is_summed_in_float32(id, dtype):
    torch.manual_seed(0)
    student, teacher = (torch.randn(2, 64) * 3).to(dtype)
    loss = any_loss(id, 8)
    out = token_loss(loss, student, teacher, torch.tensor(5))
    assert out.surrogate.dtype == out.divergence.dtype == torch.float32
    wide = token_loss(loss, student.float(), teacher.float(), torch.tensor(5))
    assert torch.equal(out.surrogate, wide.surrogate)
    assert torch.equal(out.divergence, wide.divergence)


@pytest.mark.parametrize("id", EVERY)
def test_float32_agrees_with_float64(id):
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 32, 64) * 3
    loss, reply = any_loss(id, 8), torch.arange(32)
    narrow, wide = (
        token_loss(loss, student, teacher, reply),
        token_loss(loss, student.double(), teacher.double(), reply),
    )
    assert wide.surrogate.dtype == torch.float64
    for a, b in zip(narrow, wide, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2e-5, atol=1e-5)


def test_a_small_divergence_keeps_its_digits_in_float32():
    """Near convergence the terms of sum p log(p/q) cancel; what is logged must not."""
    torch.manual_seed(0)
    student = torch.randn(500).double()
    teacher = student + 1e-3 * torch.randn(500).double()
    for id in ("rkl_full", "fkl_full"):
        exact = float(divergence(named(id), student, teacher))
        found = float(divergence(named(id), student.float(), teacher.float()))
        assert 0 < exact < 1e-6
        assert found == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("mask", [-math.inf, torch.finfo(torch.float32).min])
@pytest.mark.parametrize("id", EVERY)
def test_masked_teacher_logits_never_make_a_nan(id, mask):
    """O-23."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 10)
    teacher[:, 7:] = mask
    for reply in (0, 8):
        check_finite(any_loss(id), student, teacher, reply)
        check_finite(any_loss(id, 9), student, teacher, reply)
        check_finite(any_loss(id, 9, "teacher_top_k"), student, teacher, reply)


@pytest.mark.parametrize("mask", [-math.inf, torch.finfo(torch.float32).min])
@pytest.mark.parametrize("id", EVERY)
def test_rows_masked_in_both_models_are_as_if_absent(id, mask):
    """O-23: padded embedding rows; 0 log 0 = 0."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, 10).double()
    padded = [torch.cat([x, torch.full((6, 3), mask).double()], -1) for x in (student, teacher)]
    loss = any_loss(id)
    reply = torch.tensor([0, 1, 2, 3, 4, 5])
    found, wanted = token_loss(loss, *padded, reply), token_loss(loss, student, teacher, reply)
    close(found.surrogate, wanted.surrogate)
    close(found.divergence, wanted.divergence)
    close(gradient(loss, *padded)[..., :10], gradient(loss, student, teacher))
    check_finite(any_loss(id, 13), *padded)


def test_the_reverse_kl_against_an_impossible_token_costs_the_documented_floor():
    """O-23: finite, with the gradient still away from that token."""
    student = torch.tensor([0.5, 0.5], dtype=torch.float64).log()
    teacher = torch.tensor([0.0, -math.inf], dtype=torch.float64)
    found = value(named("rkl_full"), student, teacher)
    assert float(found) == pytest.approx(math.log(0.5) - 0.5 * LOG_PROB_FLOOR, rel=1e-12)
    assert gradient(named("rkl_full"), student, teacher)[1] > 20
    assert float(value(named("fkl_full"), student, teacher)) == pytest.approx(math.log(2))


def test_a_nan_in_the_logits_is_not_hidden():
    student = torch.tensor([1.0, math.nan, 0.0])
    for id in ("rkl_full", "rkl_tail", "k2_loss", "nll"):
        out = token_loss(any_loss(id, 2), student, torch.zeros(3), torch.tensor(0))
        assert bool(out.surrogate.isnan()) and bool(out.divergence.isnan())


@pytest.mark.parametrize("support", ["student_top_k", "teacher_top_k"])
def test_ties_at_the_last_place_do_not_enlarge_the_support(support):
    """P8 of the hazards: selection by 'at least the k-th value' would take them all."""
    student = torch.tensor([2.0, 1.0, 1.0, 1.0, 0.0]).double()
    found = support_metrics(student, student, build("rkl_gen", support, 2), torch.tensor(0))
    assert float(found.support_size) == 2
    p = student.softmax(-1)
    assert float(found.student_mass) == pytest.approx(float(p[0] + p[1]), abs=1e-12)


def test_a_union_counts_no_id_twice_and_an_intersection_only_common_ones():
    student = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0]).double()
    teacher = torch.tensor([0.0, 3.0, 4.0, 1.0, 2.0]).double()
    sizes = {"union": 4.0, "intersection": 2.0, "student_top_k": 3.0, "teacher_top_k": 3.0}
    for support, size in sizes.items():
        found = support_metrics(student, teacher, build("rkl_gen", support, 3), torch.tensor(0))
        assert float(found.support_size) == size
        assert float(found.top_k_overlap) == pytest.approx(2 / 3)


def test_an_empty_intersection_gives_zero_and_no_nan():
    student, teacher = torch.tensor([5.0, 0, -5]).double(), torch.tensor([-5.0, 0, 5]).double()
    for id in SUPPORTED:
        loss = build(id, "intersection", 1 if "renorm" not in id else 2)
        check_finite(loss, student, teacher)
    for id in ("rkl_gen", "rkl_tail", "fkl_tail", "rkl_trunc_sg", "fkl_renormT"):
        loss = build(id, "intersection", 1)
        assert float(value(loss, student, teacher)) == 0
        assert float(token_loss(loss, student, teacher, torch.tensor(0)).divergence) == 0
        assert not bool(gradient(loss, student, teacher).any())


def test_one_renormalised_token_is_a_dead_loss_with_a_warning():
    """O-25."""
    with pytest.warns(UserWarning, match="value 0, gradient 0"):
        loss = named("rkl_renorm", k=1, allow_broken=True)
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 7).double()
    assert float(value(loss, student, teacher)) == 0
    assert not bool(gradient(loss, student, teacher).any())


@pytest.mark.parametrize("id", EVERY)
def test_a_chunk_of_positions_is_as_good_as_the_batch(id):
    """O-21: values and gradients, float32, to the last bit of the sum's own rounding."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 12, 40)
    reply, loss = torch.randint(40, (12,)), any_loss(id, 6)
    z = student.clone().requires_grad_(True)
    token_loss(loss, z, teacher, reply).surrogate.sum().backward()
    parts = student.clone().requires_grad_(True)
    for part in (slice(0, 5), slice(5, 6), slice(6, 12)):
        token_loss(loss, parts[part], teacher[part], reply[part]).surrogate.sum().backward()
    torch.testing.assert_close(parts.grad, z.grad, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("id", EVERY)
def test_no_positions_give_no_values(id):
    """O-22: an all-masked chunk is empty by the time that it comes here."""
    out = token_loss(
        any_loss(id), torch.zeros(0, 9), torch.zeros(0, 9), torch.zeros(0, dtype=torch.long)
    )
    assert out.surrogate.shape == out.divergence.shape == (0,)


@pytest.mark.parametrize("id", [*SUPPORTED, *SAMPLED])
def test_top_k_and_sampled_losses_keep_no_second_vocabulary_sized_buffer(id):
    """Only the student's own logits are kept for the backward; marks of one byte do not count."""
    student = torch.randn(3, 5000, requires_grad=True)
    logits, teacher = student * 1.0, torch.randn(3, 5000)
    kept = []

    def pack(tensor):
        if tensor.numel() >= 15000 and tensor.is_floating_point():
            kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        token_loss(any_loss(id, 16), logits, teacher, torch.tensor([1, 2, 3]))
    assert set(kept) <= {logits.data_ptr()}


# -- served teachers ------------------------------------------------------------------------------

FILL_P = torch.tensor([0.45, 0.30, 0.15, 0.10], dtype=torch.float64).log()
FILL_Q = torch.tensor([0.02, 0.40, 0.50, 0.08], dtype=torch.float64).log()
LISTED = torch.tensor([1, 2])
REPLY = torch.tensor(1)


def test_an_id_that_the_teacher_lacks_is_refused_unless_a_policy_is_named():
    """O-19."""
    with pytest.raises(InvalidLoss, match="missing_ids='drop' or 'floor'"):
        from_support(named("rkl_gen", k=2), FILL_P, LISTED, FILL_Q[LISTED], REPLY)


def test_a_missing_id_is_never_given_the_students_own_log_prob():
    """O-19: the fixture in which student-fill reports a teacher mass of .85 instead of .42."""
    assert float(FILL_P[0] - FILL_Q[0]) == pytest.approx(3.1135, abs=1e-4)
    true_value = float(value(named("rkl_trunc_naive", k=2), FILL_P, FILL_Q))
    masses = {}
    for policy in ("drop", "floor"):
        loss = named("rkl_trunc_naive", k=2, missing_ids=policy)
        arguments = FILL_P, LISTED, FILL_Q[LISTED]
        found = support_metrics_from_support(*arguments, loss, REPLY)
        assert float(found.coverage) == 0.5
        masses[policy] = float(found.teacher_mass)
        surrogate = float(from_support(loss, *arguments, REPLY).surrogate)
        assert surrogate <= true_value
        if policy == "floor":  # the smallest returned probability, .4, stands for the true .02
            wanted = 0.45 * math.log(0.45 / 0.4) + 0.3 * math.log(0.3 / 0.4)
            assert surrogate == pytest.approx(wanted, abs=1e-12)
        else:
            assert surrogate == pytest.approx(0.3 * math.log(0.3 / 0.4), abs=1e-12)
    assert masses == {"drop": pytest.approx(0.40), "floor": pytest.approx(0.80)}


@quick
@given(pair=pairs(), k=st.integers(1, 6))
def test_filling_with_the_floor_bounds_the_true_truncated_value_from_below(pair, k):
    """O-19; where nothing is missing, coverage is 1 and the value is the true one."""
    student, teacher = pair
    k = min(k, len(student))
    assume(len(set(student.tolist())) == len(set(teacher.tolist())) == len(student))
    logp, ids = teacher.log_softmax(-1).topk(k)
    loss = named("rkl_trunc_naive", k=k, missing_ids="floor")
    found = float(from_support(loss, student, ids, logp, torch.tensor(0)).surrogate)
    true_value = float(value(named("rkl_trunc_naive", k=k), student, teacher))
    assert found <= true_value + 1e-12
    share = len(set(ids.tolist()) & set(student.topk(k).indices.tolist())) / k
    metrics = support_metrics_from_support(student, ids, logp, loss, torch.tensor(0))
    assert float(metrics.coverage) == pytest.approx(share)
    if share == 1:
        assert found == pytest.approx(true_value, abs=1e-10)


TOP_TWO = (0, 1)
WITH_THE_WRITTEN = (5, 0, 1)  # as vLLM lists: the written token, then the two likeliest


@pytest.mark.parametrize("ids", [TOP_TWO, WITH_THE_WRITTEN])
def test_a_written_token_beside_the_k_likeliest_does_not_lower_the_floor(ids):
    """O-19: q = 1e-8 of the written token stood for .12 and .08, and 12.19 for a value of .88."""
    teacher = torch.tensor([0.50, 0.30, 0.12, 0.0799, 1e-4, 1e-8], dtype=torch.float64).log()
    student = torch.tensor([0.05, 0.05, 0.45, 0.25, 0.10, 0.10], dtype=torch.float64).log()
    loss = named("rkl_trunc_sg", k=2, missing_ids="floor")
    listed, written = torch.tensor(ids), torch.tensor(5)
    found = from_support(
        loss, student, listed, teacher[listed], written, reply_teacher_logp=teacher[5]
    )
    wanted = 0.45 * math.log(0.45 / 0.30) + 0.25 * math.log(0.25 / 0.30)
    assert float(found.surrogate) == pytest.approx(wanted, abs=1e-7)
    true_value = float(value(named("rkl_trunc_sg", k=2), student, teacher))
    assert true_value == pytest.approx(0.880, abs=1e-3)
    assert float(found.surrogate) <= true_value


def test_a_floor_counts_the_written_token_where_it_is_among_the_k_likeliest():
    ids, logp = torch.tensor([[0, 1, -1], [5, 0, -1], [7, 2, 5], [-1, -1, -1]]), torch.zeros(4, 3)
    logp[:3] = torch.tensor([[-1.0, -2.0, 0.0], [-3.0, -1.5, 0.0], [-4.0, -0.5, -9.0]])
    listing = FromList(ids, logp, 8, torch.tensor([0, 5, 5, 5]), None, torch.float64)
    assert listing.floor(2).tolist() == [-2.0, -3.0, -4.0, 0.0]  # an empty list bounds by log 1
    assert listing.floor(3).tolist() == listing.floor(None).tolist() == [-2.0, -3.0, -9.0, 0.0]


def test_dropping_missing_ids_leaves_the_intersection():
    """O-19: so that the tail bucket and the hybrid stay right."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 12).double()
    logp, ids = teacher.log_softmax(-1).topk(5)
    common = set(ids.tolist()) & set(student.topk(5).indices.tolist())
    assert 0 < len(common) < 5
    for id in ("rkl_gen", "rkl_tail", "rkl_hybrid"):
        dropped = build(id, "student_top_k", 5, missing_ids="drop")
        wanted = token_loss(build(id, "intersection", 5), student, teacher, torch.tensor(3))
        teacher_logp = teacher.log_softmax(-1)
        found = from_support(
            dropped, student, ids, logp, torch.tensor(3), reply_teacher_logp=teacher_logp[3]
        )
        close(found.surrogate, wanted.surrogate)
        close(found.divergence, wanted.divergence)


def test_a_written_token_that_the_list_lacks_must_be_passed():
    ids, logp = torch.tensor([1, 2]), FILL_Q[[1, 2]]
    for id in ("k2_loss", "pg_k1", "bern_tail"):
        with pytest.raises(InvalidLoss, match="reply_teacher_logp"):
            from_support(named(id), FILL_P, ids, logp, torch.tensor(3))
        found = from_support(
            named(id), FILL_P, ids, logp, torch.tensor(3), reply_teacher_logp=FILL_Q[3]
        )
        close(found.surrogate, token_loss(named(id), FILL_P, FILL_Q, torch.tensor(3)).surrogate)
    with pytest.raises(InvalidLoss, match="reply_teacher_logp"):
        from_support(named("rkl_hybrid", k=2), FILL_P, ids, logp, torch.tensor(3))


def test_lists_of_unequal_length_are_padded_with_negative_ids():
    ids = torch.tensor([[1, 2, 3], [2, -1, 1]])
    logp = FILL_Q[ids.clamp(min=0)]
    student = FILL_P.expand(2, 4)
    out = from_support(
        named("rkl_gen", support="teacher_top_k", k=2), student, ids, logp, torch.tensor([1, 1])
    )
    close(out.surrogate[0], out.surrogate[1])
    with pytest.raises(InvalidLoss, match="k=3, and the teacher's list has 2"):
        from_support(
            named("rkl_gen", support="teacher_top_k", k=3), student, ids, logp, torch.tensor([1, 1])
        )


def test_a_loss_on_the_whole_vocabulary_is_refused_for_a_list():
    for loss in (named("rkl_full"), named("pg_k1", baseline="reverse_kl")):
        with pytest.raises(InvalidLoss, match="whole distribution"):
            from_support(loss, FILL_P, LISTED, FILL_Q[LISTED], REPLY)


def test_a_list_that_names_an_id_twice_counts_it_once():
    loss = named("rkl_gen", support="teacher_top_k", k=2)
    for repeated in ([2, 1, 2], [1, 1, 2], [2, 1, 1, 1]):
        ids = torch.tensor(repeated)
        found = from_support(loss, FILL_P, ids, FILL_Q[ids], REPLY)
        close(found.surrogate, token_loss(loss, FILL_P, FILL_Q, REPLY).surrogate)


def test_an_impossible_token_of_a_list_comes_before_an_empty_slot():
    """O-23, for a list: the floor stands for -inf, and no empty slot is read as a token."""
    ids, logp = torch.tensor([2, -1, 1, -1]), torch.tensor([-math.inf, 0.0, -0.1, 0.0]).double()
    loss = named("rkl_trunc_naive", support="teacher_top_k", k=2)
    found = from_support(loss, FILL_P, ids, logp, REPLY)
    wanted = 0.3 * (math.log(0.3) + 0.1) + 0.15 * (math.log(0.15) - LOG_PROB_FLOOR)
    assert float(found.surrogate) == pytest.approx(wanted, rel=1e-8)


def test_a_list_whose_mass_rounds_to_one_or_above_keeps_a_finite_tail():
    """O-20, for a list, whose tail is only known as 1 - Q_S."""
    student = FILL_P.float()
    logp = torch.tensor([0.6, 0.4]).log() + 1e-6
    for id in ("rkl_tail", "fkl_tail"):
        loss = build(id, "teacher_top_k", 2)
        out = from_support(loss, student, LISTED, logp, REPLY)
        assert bool(out.surrogate.isfinite()) and bool(out.divergence.isfinite())


def test_a_list_of_the_whole_vocabulary_leaves_no_tail():
    """O-3, for a list, in float32, where 1 - Q_S is rounding."""
    student, teacher = FILL_P.float(), FILL_Q.float()
    loss = build("fkl_tail", "teacher_top_k", 4)
    found = from_support(loss, student, torch.arange(4), teacher, REPLY)
    wanted = token_loss(named("fkl_full"), student, teacher, REPLY)
    torch.testing.assert_close(found.surrogate, wanted.surrogate, rtol=0, atol=1e-6)


def test_a_nan_in_a_list_is_not_hidden():
    logp = torch.tensor([math.nan, -1.0]).double()
    out = from_support(build("rkl_gen", "teacher_top_k", 2), FILL_P, LISTED, logp, REPLY)
    assert bool(out.surrogate.isnan())


@quick
@given(pair=pairs(), temperature=st.sampled_from([0.5, 2.0]))
def test_a_listed_teacher_takes_a_temperature_only_where_the_support_is_renormalised(
    pair, temperature
):
    """O-24."""
    student, teacher = pair
    k = max(2, len(student) // 2)
    ranked = teacher.sort(descending=True).values
    assume(k == len(student) or float(ranked[k - 1] - ranked[k]) > 1e-6)
    logp, ids = teacher.log_softmax(-1).topk(k)
    reply = torch.tensor(0)
    for id in ("rkl_renorm", "fkl_renorm", "fkl_renormT"):
        loss = build(id, "teacher_top_k", k)
        tempered = from_support(loss, student, ids, logp / temperature, reply)
        close(tempered.surrogate, token_loss(loss, student, teacher / temperature, reply).surrogate)


def test_an_unrenormalised_list_does_not_take_a_temperature():
    """O-24, the negative side."""
    logp, ids = FILL_Q.topk(2)
    loss = build("rkl_gen", "teacher_top_k", 2)
    found = from_support(loss, FILL_P, ids, logp / 2, REPLY).surrogate
    assert abs(float(found - token_loss(loss, FILL_P, FILL_Q / 2, REPLY).surrogate)) > 0.05


@pytest.mark.parametrize("id", ["rkl_full", "rkl_tail", "rkl_trunc_sg", "k2_loss", "rkl_hybrid"])
def test_the_same_logits_on_both_sides_are_null_in_float32(id):
    """O-28, the loss's share: zero next to a shuffled teacher."""
    torch.manual_seed(0)
    logits = torch.randn(64, 200) * 3
    reply, loss = torch.randint(200, (64,)), any_loss(id, 20)

    def norm(teacher):
        z = logits.clone().requires_grad_(True)
        out = token_loss(loss, z, teacher, reply)
        out.surrogate.sum().backward()
        return float(z.grad.norm()), float(out.divergence.mean())

    null, shuffled = norm(logits), norm(logits.roll(1, 0))
    assert null[0] < 1e-5 * shuffled[0] and null[1] < 1e-6 * shuffled[1]


def test_the_fingerprints_of_truncation_are_those_of_their_definitions():
    """O-4 for the leak; at the naive minimum (O-9) the log-ratio inside the support is -1."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 9).double()
    loss = named("rkl_trunc_naive", k=4)
    found = support_metrics(student, teacher, loss, torch.tensor(0))
    inside = student.topk(4).indices
    logits = student.clone().requires_grad_(True)
    (pushed,) = torch.autograd.grad(logits.softmax(-1)[inside].sum(), logits)
    assert float(found.leak) == pytest.approx(float(pushed.abs().sum()), abs=1e-12)
    p, q = student.softmax(-1)[inside], teacher.softmax(-1)[inside]
    wanted = float((p * (p / q).log()).sum() / p.sum())
    assert float(found.log_ratio) == pytest.approx(wanted, abs=1e-12)
    assert float(found.negative_share) == float(wanted < 0)

    q = torch.tensor([0.5, 0.3, 0.15, 0.05]).double()
    p = torch.cat([q[:2] / math.e, torch.zeros(2).double()])
    p[2:] = (1 - p.sum()) / 2
    leaked = named("rkl_trunc_naive", k=2, support="teacher_top_k", allow_broken=True)
    found = support_metrics(p.log(), q.log(), leaked, torch.tensor(0))
    assert float(found.log_ratio) == pytest.approx(-1)
    assert float(found.negative_share) == 1


def test_a_whole_vocabulary_leaks_nothing_and_its_log_ratio_is_the_reverse_kl():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 9).double()
    found = support_metrics(student, teacher, named("rkl_full"), torch.zeros(3, dtype=torch.long))
    wanted = value(named("rkl_full"), student, teacher)
    assert torch.allclose(found.log_ratio, wanted)
    assert not found.leak.any() and not found.negative_share.any()
