"""Losses that change with training: TAID by its equations, and the KL to a teacher seen through."""

import dataclasses
import math

import pytest
import torch
from loss_checks import build

from opcd_bench.distillation.losses.divergence import named
from opcd_bench.distillation.losses.functional import token_loss
from opcd_bench.distillation.losses.scheduled import Scheduled, Taid, forms, interpolated
from opcd_bench.distillation.method import STUDENT, Method
from opcd_bench.errors import InvalidLoss


def logits(seed, n=6, v=11):
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(n, v, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("t", [0.1, 0.4, 0.9])
@pytest.mark.parametrize("k", [None, 4])
def test_the_target_is_the_softmax_of_the_interpolated_logits(t, k):
    """Value KL(m||p) and logit gradient p - m, m a constant."""
    student, teacher, ids = logits(0), logits(1), torch.zeros(6, dtype=torch.long)
    z = student.clone().requires_grad_(True)
    loss = interpolated(t) if k is None else named("interp_renorm", alpha=t, k=k)
    out = token_loss(loss, z, teacher, ids)
    (found,) = torch.autograd.grad(out.surrogate.sum(), z)
    top = student.topk(11 if k is None else k).indices
    inside = torch.zeros_like(student, dtype=torch.bool).scatter_(-1, top, True)
    p = student.masked_fill(~inside, -math.inf).softmax(-1)
    m = ((1 - t) * student + t * teacher).masked_fill(~inside, -math.inf).softmax(-1)
    kl = torch.where(inside, m * (m.log() - p.log()), 0.0).sum(-1)
    assert torch.allclose(out.surrogate.detach(), kl, atol=1e-12)
    assert torch.allclose(out.divergence, kl, atol=1e-12)
    assert torch.allclose(found, p - m, atol=1e-12)


def test_at_one_it_is_the_forward_kl_and_at_the_teacher_it_is_zero():
    assert interpolated(1.0) == named("fkl_full")
    student, ids = logits(0), torch.zeros(6, dtype=torch.long)
    z = student.clone().requires_grad_(True)
    out = token_loss(build("interp", alpha=0.4), z, student.clone(), ids)
    (found,) = torch.autograd.grad(out.surrogate.sum(), z)
    assert float(found.abs().max()) < 1e-12 and float(out.divergence.max()) < 1e-12
    with pytest.raises(InvalidLoss, match="alpha"):
        named("interp", alpha=1.0)


def by_hand(losses, steps, t_start, t_end, alpha, beta):
    """Algorithm 1, written out: the t of each step, and the one after the last."""
    ts, t, m, before = [], t_start, 0.0, None
    for n, value in enumerate(losses, 1):
        ts.append(t)
        moved = 0.0
        if before is not None:
            m = beta * m + (1 - beta) * (before - value) / (before + 1e-15)
            moved = alpha / (1 + math.exp(-m)) * (1 - t)
        t = min(t_end, max(t_start + (t_end - t_start) * n / steps, t + moved))
        before = value
    return [*ts, t]


@pytest.mark.parametrize("alpha", [5e-4, 0.3])
def test_t_moves_as_the_algorithm_says(alpha):
    taid, steps = Taid(step=alpha, momentum=0.9), 12
    losses = [2.0, 1.5, 1.6, 0.9, 0.9, 1.4, 0.4, 0.3, 0.31, 0.2, 0.1, 0.1]
    state, found = taid.begin(), []
    for n, value in enumerate(losses):
        assert taid.at(state, n / steps) == interpolated(state["t"])
        found.append(state["t"])
        state = taid.after(state, (n + 1) / steps, value)
    assert [*found, state["t"]] == pytest.approx(by_hand(losses, steps, 0.4, 1.0, alpha, 0.9))
    line = [0.4 + 0.6 * n / steps for n in range(steps + 1)]
    assert all(t >= at - 1e-12 for t, at in zip([*found, state["t"]], line, strict=True))
    assert (max(t - at for t, at in zip(found, line, strict=False)) > 0.05) == (alpha > 0.1)
    assert state["t"] == 1.0 and taid.at(state, 1.0) == named("fkl_full")


def test_nothing_is_kept_in_the_object():
    taid = Taid()
    first = taid.begin()
    kept = dict(first)
    taid.after(taid.after(first, 0.5, 2.0), 1.0, 1.0)
    assert first == kept and taid.begin() == kept
    assert isinstance(taid, Scheduled) and not isinstance(named("rkl_full"), Scheduled)
    with pytest.raises(dataclasses.FrozenInstanceError):
        taid.t_start = 0.1
    assert forms(taid) == [named("interp", alpha=0.4), named("fkl_full")]


@pytest.mark.parametrize(
    "values",
    [{"t_start": 0.0}, {"t_start": 0.9, "t_end": 0.5}, {"t_end": 1.1}, {"step": -1.0},
     {"momentum": 1.0}, {"step": math.nan}],
)  # fmt: skip
def test_each_invalid_choice_is_refused(values):
    with pytest.raises(InvalidLoss, match="taid"):
        Taid(**values)


def test_a_scheduled_loss_of_ones_own_is_known_by_its_source_and_its_values():
    @dataclasses.dataclass(frozen=True)
    class Own:
        end: float
        metric = "own"

        def begin(self):
            return {}

        def at(self, state, progress):
            return named("rkl_full")

        def after(self, state, progress, value):
            return state

    made = [Method("own", "A test's.", "a test", STUDENT, Own(end)) for end in (0.5, 0.5, 0.6)]
    told = [one.describe()["loss"] for one in made]
    assert told[0] == told[1] != told[2] and told[0]["callable"].endswith("Own")
    assert all(one.needs_teacher for one in made)
