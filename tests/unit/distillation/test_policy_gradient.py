"""The policy gradient against its formula by hand, autograd, and the exact expected gradient."""

import math

import pytest
import torch

from opcd_bench.distillation.advantages import SMALL, advantages
from opcd_bench.distillation.losses import diagnostics
from opcd_bench.distillation.losses.functional import token_loss
from opcd_bench.distillation.losses.policy import Beside
from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
from opcd_bench.distillation.method import STUDENT, TOLD_TEACHER, Method
from opcd_bench.distillation.parameters import with_parameters
from opcd_bench.envs.task import Grade
from opcd_bench.errors import InvalidLoss
from opcd_bench.rollout.engine import Reply
from opcd_bench.rollout.trajectory import Skipped, Trajectory, TurnRecord

N, V = 12, 9


def tensors(seed=0):
    g = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    student = 2 * randn(N, V)
    ids = torch.randint(V, (N,), generator=g)
    own = student.log_softmax(-1).gather(-1, ids[:, None])[:, 0]
    return student, 2 * randn(N, V), ids, own + 0.4 * randn(N), randn(N)


def by_hand(student, teacher, ids, sampler, advantage, clip, high, kl):
    """Value and logit gradient of each position, by the formula and the chain rule alone."""
    values, gradients = [], []
    for z, q, y, mu, a in zip(student, teacher, ids, sampler, advantage, strict=True):
        p = z.softmax(-1)
        logp, logq = math.log(p[y]), float(q.log_softmax(-1)[y])
        r = math.exp(logp - float(mu))
        held = min(max(r, 1 - clip), 1 + high)
        value = -min(r * float(a), held * float(a))
        slope = -r * float(a) if r * float(a) <= held * float(a) else 0.0
        gap = logp - logq
        value += kl * (math.exp(-gap) - 1 + gap)
        slope += kl * (1 - math.exp(-gap))
        one = torch.zeros(V, dtype=torch.float64)
        one[y] = 1.0
        values.append(value)
        gradients.append(slope * (one - p))
    return torch.tensor(values, dtype=torch.float64), torch.stack(gradients)


@pytest.mark.parametrize("kl", [0.0, 0.3])
@pytest.mark.parametrize(("clip", "high"), [(0.2, None), (0.1, 0.4)])
def test_value_and_gradient_are_those_of_the_formula(clip, high, kl):
    student, teacher, ids, sampler, advantage = tensors()
    loss = PolicyGradient(clip=clip, clip_high=high, kl=kl)
    z = student.clone().requires_grad_(True)
    out = token_loss(loss, z, teacher, ids, sampler_logp=sampler, advantage=advantage)
    (found,) = torch.autograd.grad(out.surrogate.sum(), z)
    value, gradient = by_hand(
        student, teacher, ids, sampler, advantage, clip, clip if high is None else high, kl
    )
    assert torch.allclose(out.surrogate.detach(), value, atol=1e-12)
    assert torch.allclose(found, gradient, atol=1e-12)
    assert not out.divergence.requires_grad and bool((out.divergence >= 0).all())


def test_on_policy_the_expected_gradient_is_that_of_the_expected_reward():
    """Every token y once, weighted by p(y): minus the gradient of sum p A, to rounding."""
    student, _, _, _, _ = tensors()
    z = student[0].clone().requires_grad_(True)
    worth = torch.linspace(-1, 2, V, dtype=torch.float64)
    p = z.softmax(-1)
    (wanted,) = torch.autograd.grad(-(p * worth).sum(), z)
    ids = torch.arange(V)
    sampler = student[0].log_softmax(-1)
    out = token_loss(
        PolicyGradient(), z.expand(V, V), None, ids, sampler_logp=sampler, advantage=worth
    )
    (found,) = torch.autograd.grad((out.surrogate * student[0].softmax(-1)).sum(), z)
    assert torch.allclose(found, wanted, atol=1e-12)
    flat = token_loss(
        PolicyGradient(advantage="constant", allow_broken=True), z.expand(V, V), None, ids,
        sampler_logp=sampler, advantage=torch.ones(V, dtype=torch.float64),
    )  # fmt: skip
    (nothing,) = torch.autograd.grad((flat.surrogate * student[0].softmax(-1)).sum(), z)
    assert float(nothing.abs().max()) < 1e-12


def test_the_clip_takes_the_gradient_only_where_it_would_go_further():
    z = torch.zeros(4, 2, dtype=torch.float64, requires_grad=True)
    ids = torch.zeros(4, dtype=torch.long)
    ratio = torch.tensor([1.5, 1.5, 0.5, 0.5], dtype=torch.float64)
    sampler = math.log(0.5) - ratio.log()
    worth = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    out = token_loss(PolicyGradient(), z, None, ids, sampler_logp=sampler, advantage=worth)
    assert torch.allclose(out.surrogate.detach(), torch.tensor([-1.2, 1.5, -0.5, 0.8]).double())
    (found,) = torch.autograd.grad(out.surrogate.sum(), z)
    assert [bool(row.abs().sum() > 0) for row in found] == [False, True, True, False]
    measured = diagnostics.measured_alone(PolicyGradient(), z, ids, Beside(sampler, worth))
    assert measured.metrics["clip_share"].tolist() == [1, 0, 0, 1]


def test_far_ratios_stay_finite_in_float32():
    z = torch.tensor([[80.0, -80.0], [-80.0, 80.0]], requires_grad=True)
    out = token_loss(
        PolicyGradient(kl=0.1), z, -z.detach(), torch.tensor([0, 0]),
        sampler_logp=torch.tensor([-150.0, 0.0]), advantage=torch.tensor([1.0, -1.0]),
    )  # fmt: skip
    (found,) = torch.autograd.grad(out.surrogate.sum(), z)
    assert bool(torch.isfinite(out.surrogate).all() and torch.isfinite(found).all())


def test_what_it_lacks_is_named():
    student, _, ids, sampler, advantage = tensors()
    with pytest.raises(InvalidLoss, match="Pass sampler_logp and advantage"):
        token_loss(PolicyGradient(), student, None, ids, sampler_logp=sampler)
    with pytest.raises(InvalidLoss, match="reads a teacher"):
        token_loss(
            PolicyGradient(kl=1.0), student, None, ids, sampler_logp=sampler, advantage=advantage
        )


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"advantage": "grp"}, "no such word"),
        ({"clip": 0.0}, "between 0 and 1"),
        ({"clip": True}, "between 0 and 1"),
        ({"clip_high": -1.0}, "above 0"),
        ({"kl": -0.1}, "0 or more"),
        ({"kl": math.nan}, "0 or more"),
        ({"advantage": "constant"}, "expected gradient is exactly 0"),
    ],
)
def test_each_invalid_choice_is_refused(values, told):
    with pytest.raises(InvalidLoss, match=told):
        PolicyGradient(**values)


def test_it_is_on_policy_only_and_takes_parameters():
    made = Method("mine", "A test's.", "a test", STUDENT, PolicyGradient())
    assert not made.needs_teacher and made.rewarded
    found = with_parameters(made, {"kl": "0.04", "clip_high": "0.28", "reads": "nothing"})
    assert found.name == "mine[clip_high=0.28,kl=0.04,reads=nothing]"
    assert found.needs_teacher and found.describe()["loss"]["kl"] == 0.04
    with pytest.raises(InvalidLoss, match="use writer=STUDENT"):
        Method("mine", "A test's.", "a test", TOLD_TEACHER, PolicyGradient())


# --- advantages ------------------------------------------------------------------------------


def reply(example, score, outcome="correct"):
    turn = TurnRecord(({"role": "user", "content": "x"},), (1,), Reply((2,), (-1.0,), "x", "stop"))
    return Trajectory(example, (turn,), Grade(score, None, "why"), outcome, "")


def test_advantages_are_relative_to_the_group_of_an_example():
    group = [reply("a", 1.0), reply("b", 0.5), reply("a", 0.0), reply("a", None, "unparsable"),
             reply("b", 0.5), Skipped("a", 0, 9, 8), reply("b", 0.0, "failed")]  # fmt: skip
    found = advantages(PolicyGradient(), group)
    mean, spread = 1 / 3, math.sqrt(((2 / 3) ** 2 + 2 * (1 / 3) ** 2) / 2)
    wanted = [(score - mean) / (spread + SMALL) for score in (1.0, 0.0, 0.0)]
    assert [found[0], found[2], found[3]] == pytest.approx(wanted)
    assert [found[1], found[4], found[5], found[6]] == [0.0, 0.0, 0.0, 0.0]
    centred = advantages(PolicyGradient(advantage="centred"), group)
    assert centred[0] == pytest.approx(2 / 3) and centred[2] == pytest.approx(-1 / 3)
    constant = PolicyGradient(advantage="constant", allow_broken=True)
    assert advantages(constant, group) == [1.0] * 7


def test_a_response_alone_in_its_group_teaches_nothing():
    assert advantages(PolicyGradient(), [reply("a", 1.0), reply("b", 0.0)]) == [0.0, 0.0]
