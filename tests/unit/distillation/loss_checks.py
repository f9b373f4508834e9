"""The oracles that the loss tests share: closed forms, strategies and checkers.

A checker takes any callable `(student_logits, teacher_logits, reply_ids) -> TokenLoss` and raises
AssertionError, so that the negative tests can hand it a wrong one. O-numbers are those of the
project's list of loss oracles.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from hypothesis import assume, settings
from hypothesis import strategies as st
from torch import Tensor

from opcd_bench.distillation.losses.divergence import Divergence, named
from opcd_bench.distillation.losses.functional import TokenLoss, from_support, token_loss

TokenLossFunction = Callable[[Tensor, Tensor, Tensor], TokenLoss]
quick = settings(max_examples=25, deadline=None, derandomize=True)

SUPPORT_KINDS = ("student_top_k", "teacher_top_k", "union", "intersection", "given")
FULL = ("rkl_full", "fkl_full", "jsd_b", "skew_f", "skew_r")
TRUNCATED = (
    "rkl_trunc_naive",
    "rkl_trunc_sg",
    "rkl_gen",
    "rkl_tail",
    "rkl_renorm",
    "rkl_sg_wrong",
    "fkl_trunc",
    "fkl_gen",
    "fkl_renormT",
    "fkl_renorm",
    "fkl_tail",
)
BETA, ALPHA = 0.3, 0.1


class Case(NamedTuple):
    """One position: logits of both models, a support and how it came about."""

    student: Tensor
    teacher: Tensor
    kind: str
    k: int
    inside: Tensor

    @property
    def p(self) -> Tensor:
        return self.student.softmax(-1)

    @property
    def q(self) -> Tensor:
        return self.teacher.softmax(-1)


def logits(vocabulary: int) -> st.SearchStrategy[Tensor]:
    number = st.floats(-8, 8, allow_nan=False, width=32)
    return st.lists(number, min_size=vocabulary, max_size=vocabulary).map(
        lambda x: torch.tensor(x, dtype=torch.float64)
    )


@st.composite
def pairs(draw, largest: int = 12) -> tuple[Tensor, Tensor]:
    vocabulary = draw(st.integers(2, largest))
    return draw(logits(vocabulary)), draw(logits(vocabulary))


@st.composite
def cases(draw, kinds: tuple[str, ...] = SUPPORT_KINDS, proper: bool = False) -> Case:
    """Draw logits, then k, then the support; `proper` leaves something outside and inside."""
    student, teacher = draw(pairs())
    vocabulary = len(student)
    k = draw(st.integers(1, vocabulary - 1 if proper else vocabulary))
    for values in (student, teacher):  # no tie within 1e-6 at the k-th place
        ranked = values.sort(descending=True).values
        assume(k == vocabulary or float(ranked[k - 1] - ranked[k]) > 1e-6)
    kind = draw(st.sampled_from(kinds))
    own, told = (mask_of(x.topk(k).indices, vocabulary) for x in (student, teacher))
    if kind == "given":
        ids = draw(st.permutations(range(vocabulary)))[:k]
        inside = mask_of(torch.tensor(ids), vocabulary)
    else:
        inside = {
            "student_top_k": own,
            "teacher_top_k": told,
            "union": own | told,
            "intersection": own & told,
        }[kind]
    if proper:
        assume(0 < int(inside.sum()) < vocabulary)
    return Case(student, teacher, kind, k, inside)


def mask_of(ids: Tensor, vocabulary: int) -> Tensor:
    return torch.zeros(vocabulary, dtype=torch.bool).index_fill(0, ids, True)


def build(id: str, support: str | None = None, k: int | None = None, **options) -> Divergence:
    """`named` with this module's beta and alpha filled in and controls let through."""
    if id.startswith("jsd"):
        options.setdefault("beta", BETA)
    if id.startswith("skew"):
        options.setdefault("alpha", ALPHA)
    if support is not None:
        options["support"] = support
    if k is not None:
        options["k"] = k
    return named(id, **options, allow_broken=True)


def on_case(id: str, case: Case, **options) -> TokenLossFunction:
    """The loss on the case's own support, as a function of student, teacher, reply."""
    if case.kind != "given":
        return build(id, case.kind, case.k, **options)
    ids = case.inside.nonzero().squeeze(-1)
    loss = build(id, "teacher_top_k", len(ids), **options)

    def listed(student: Tensor, teacher: Tensor, reply: Tensor) -> TokenLoss:
        teacher_logp = teacher.log_softmax(-1)[..., ids]
        return from_support(loss, student, ids.expand(teacher_logp.shape), teacher_logp, reply)

    return listed


def gradient(loss: TokenLossFunction, student: Tensor, teacher: Tensor, reply: int = 0) -> Tensor:
    z = student.detach().clone().requires_grad_(True)
    value = token_loss(loss, z, teacher, torch.full(student.shape[:-1], reply)).surrogate
    return torch.autograd.grad(value.sum(), z)[0]


def value(loss: TokenLossFunction, student: Tensor, teacher: Tensor, reply: int = 0) -> Tensor:
    return token_loss(loss, student, teacher, torch.full(student.shape[:-1], reply)).surrogate


def divergence(loss: TokenLossFunction, student: Tensor, teacher: Tensor, reply: int = 0) -> Tensor:
    return token_loss(loss, student, teacher, torch.full(student.shape[:-1], reply)).divergence


def full_gradient(case_p: Tensor, case_q: Tensor) -> Tensor:
    """p (l - R), the logit gradient of the full reverse KL."""
    ratio = case_p.log() - case_q.log()
    return case_p * (ratio - (case_p * ratio).sum())


def mass_gradient(p: Tensor, inside: Tensor) -> Tensor:
    """Gradient of the student's mass on the support."""
    return p * (inside.double() - p[inside].sum())


def expected_gradient(
    loss: TokenLossFunction,
    student: Tensor,
    teacher: Tensor,
    writer: Tensor | None = None,
    **options: Tensor,
) -> Tensor:
    """Sum over y of writer(y) x logit gradient with y written; the writer is p unless named."""
    vocabulary = len(student)
    writer = student.softmax(-1) if writer is None else writer
    z = student.detach().clone().requires_grad_(True)
    shape = (vocabulary, vocabulary)
    out = token_loss(
        loss, z.expand(shape), teacher.expand(shape), torch.arange(vocabulary), **options
    )
    return torch.autograd.grad((out.surrogate * writer).sum(), z)[0]


def closed_form(id: str, case: Case) -> tuple[Tensor, Tensor]:
    """Value and logit gradient from the formulas, in probabilities, without autograd."""
    p, q = case.p, case.q
    m = case.inside.double()
    ratio = p.log() - q.log()
    student_mass, teacher_mass = (m * p).sum(), (m * q).sum()
    naive = (m * p * ratio).sum()
    tail_p, tail_q = ((1 - m) * p).sum(), ((1 - m) * q).sum()
    has_tail = bool((m == 0).any())
    tail_ratio = (tail_p / tail_q).log() if has_tail else torch.zeros(())
    tail_term = tail_p * tail_ratio if has_tail else 0.0
    renormed_p, renormed_q = m * p / student_mass, m * q / teacher_mass
    renormed_ratio = ratio - (student_mass / teacher_mass).log()
    if id == "rkl_full":
        return (p * ratio).sum(), full_gradient(p, q)
    if id == "fkl_full":
        return -(q * ratio).sum(), p - q
    if id == "jsd_b":
        mixed = (1 - BETA) * p + BETA * q
        student_part = (p * (p / mixed).log()).sum()
        total = BETA * (q * (q / mixed).log()).sum() + (1 - BETA) * student_part
        return total, (1 - BETA) * p * ((p / mixed).log() - student_part)
    if id == "skew_f":
        mixed = ALPHA * q + (1 - ALPHA) * p
        slope = -(1 - ALPHA) * q / mixed
        return (q * (q / mixed).log()).sum(), p * (slope - (p * slope).sum())
    if id == "skew_r":
        mixed = (1 - ALPHA) * q + ALPHA * p
        slope = (p / mixed).log() + 1 - ALPHA * p / mixed
        return (p * (p / mixed).log()).sum(), p * (slope - (p * slope).sum())
    if id == "rkl_trunc_naive":
        return naive, p * (m * (ratio + 1) - (naive + student_mass))
    if id == "rkl_trunc_sg":
        return naive, p * (m * ratio - naive)
    if id == "rkl_gen":
        return naive - student_mass + teacher_mass, p * (m * ratio - naive)
    if id == "rkl_sg_wrong":
        return naive, mass_gradient(p, case.inside)
    if id == "rkl_tail":
        total = naive + tail_term
        return total, p * (m * ratio + (1 - m) * tail_ratio - total)
    if id == "rkl_renorm":
        total = (renormed_p * renormed_ratio).sum()
        return total, renormed_p * (renormed_ratio - total)
    if id == "fkl_trunc":
        return -(m * q * ratio).sum(), teacher_mass * p - m * q
    if id == "fkl_gen":
        total = -(m * q * ratio).sum() - teacher_mass + student_mass
        return total, teacher_mass * p - m * q + p * (m - student_mass)
    if id == "fkl_renormT":  # up to the teacher's entropy this is the cross-entropy
        total = (renormed_q[case.inside] * (renormed_q / p)[case.inside].log()).sum()
        return total, p - renormed_q
    if id == "fkl_renorm":
        return -(renormed_q * renormed_ratio).sum(), renormed_p - renormed_q
    if id == "fkl_tail":
        total = -(m * q * ratio).sum() - (tail_q * tail_ratio if has_tail else 0.0)
        outside = (1 - m) * p * (1 - (tail_q / tail_p if has_tail else 0.0))
        return total, m * (p - q) + outside
    raise KeyError(id)


def finite_difference(loss: TokenLossFunction, student: Tensor, teacher: Tensor) -> Tensor:
    """Central differences of the surrogate; only for losses without a stop-gradient."""
    step, vocabulary = 1e-6, len(student)
    shifts = step * torch.eye(vocabulary, dtype=torch.float64)
    many = teacher.expand(vocabulary, vocabulary)
    up, down = value(loss, student + shifts, many), value(loss, student - shifts, many)
    return (up - down) / (2 * step)


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, wanted.to(found), rtol=tolerance, atol=tolerance)


# -- checkers -------------------------------------------------------------------------------------


def check_formula(loss: TokenLossFunction, id: str, case: Case) -> None:
    """Value and gradient agree with the closed form."""
    wanted_value, wanted_gradient = closed_form(id, case)
    # a listed teacher's tail is 1 - Q_S, which cancels; logits tell it exactly
    tolerance = 1e-6 if case.kind == "given" and id.endswith("tail") else 1e-9
    close(value(loss, case.student, case.teacher), wanted_value, tolerance)
    close(gradient(loss, case.student, case.teacher), wanted_gradient, tolerance)


def check_gradient_sums_to_zero(
    loss: TokenLossFunction, student: Tensor, teacher: Tensor, reply: int = 0
) -> None:
    """O-1: no direction for a shift of all logits."""
    found = gradient(loss, student, teacher, reply)
    assert abs(float(found.sum())) <= 1e-9 * (1 + float(found.abs().sum()))


def check_shift_invariance(
    loss: TokenLossFunction, student: Tensor, teacher: Tensor, reply: int = 0
) -> None:
    """O-1: a constant added to the logits of either model changes nothing."""
    for moved in ((student + 3.7, teacher), (student, teacher - 2.3)):
        close(gradient(loss, *moved, reply), gradient(loss, student, teacher, reply), 1e-8)
        close(value(loss, *moved, reply), value(loss, student, teacher, reply), 1e-8)


def check_null(loss: TokenLossFunction, logits_V: Tensor, reply: int = 0) -> None:
    """O-2: equal models, no gradient, nothing to log."""
    assert float(gradient(loss, logits_V, logits_V, reply).abs().max()) < 1e-10
    assert abs(float(divergence(loss, logits_V, logits_V, reply))) < 1e-10


def check_honest_log(
    loss: TokenLossFunction, student: Tensor, teacher: Tensor, reply: int = 0
) -> None:
    """The logged value is detached, non-negative, and 0 for equal models."""
    logged = token_loss(
        loss, student.clone().requires_grad_(True), teacher, torch.tensor(reply)
    ).divergence
    assert not logged.requires_grad
    assert float(logged) >= 0.0
    assert abs(float(divergence(loss, student, student, reply))) < 1e-10


def check_positions_are_independent(
    loss: TokenLossFunction, student: Tensor, teacher: Tensor, reply: Tensor
) -> None:
    """O-21, O-22: a batch of positions (N, V) is N separate positions: no reduction inside."""
    together = token_loss(loss, student, teacher, reply)
    assert together.surrogate.shape == together.divergence.shape == reply.shape
    grads = _batch_gradient(loss, student, teacher, reply)
    for i in range(len(reply)):
        alone = token_loss(loss, student[i], teacher[i], reply[i])
        close(together.surrogate[i], alone.surrogate)
        close(together.divergence[i], alone.divergence)
        close(grads[i], gradient(loss, student[i], teacher[i], int(reply[i])))


def _batch_gradient(
    loss: TokenLossFunction, student: Tensor, teacher: Tensor, reply: Tensor
) -> Tensor:
    z = student.clone().requires_grad_(True)
    return torch.autograd.grad(token_loss(loss, z, teacher, reply).surrogate.sum(), z)[0]


def check_permutation(
    loss: TokenLossFunction, student: Tensor, teacher: Tensor, order: Tensor, reply: int = 0
) -> None:
    """O-26: renaming the vocabulary renames the gradient and changes nothing else."""
    moved_reply = int((order == reply).nonzero())
    moved = gradient(loss, student[order], teacher[order], moved_reply)
    close(moved, gradient(loss, student, teacher, reply)[order])


def check_teacher_is_detached(
    loss: TokenLossFunction, student: Tensor, teacher: Tensor, reply: int = 0
) -> None:
    """O-27: no gradient reaches the teacher."""
    z, t = student.clone().requires_grad_(True), teacher.clone().requires_grad_(True)
    token_loss(loss, z, t, torch.tensor(reply)).surrogate.backward()
    assert t.grad is None or not bool(t.grad.any())
    assert z.grad is not None


def check_finite(loss: TokenLossFunction, student: Tensor, teacher: Tensor, reply: int = 0) -> None:
    """O-20, O-23: values and gradients are finite."""
    out = token_loss(loss, student, teacher, torch.full(student.shape[:-1], reply))
    assert bool(out.surrogate.isfinite().all()) and bool(out.divergence.isfinite().all())
    assert bool(gradient(loss, student, teacher, reply).isfinite().all())


def check_alive(loss: TokenLossFunction, student: Tensor, teacher: Tensor) -> None:
    """O-17: where the models differ on the support, there is a gradient."""
    assert float(gradient(loss, student, teacher).abs().max()) > 1e-6


def rejected(checker: Callable[..., None], *arguments) -> bool:
    """Whether the checker refuses this loss; errors other than assertions pass through."""
    try:
        checker(*arguments)
    except AssertionError:
        return True
    return False


def subsets(vocabulary: int):
    """Every non-empty set of ids."""
    for size in range(1, vocabulary + 1):
        yield from itertools.combinations(range(vocabulary), size)
