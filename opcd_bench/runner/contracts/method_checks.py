"""The contracts of a method: its loss on tiny tensors, and what its run would be known by."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.functional import token_loss
from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
from opcd_bench.distillation.losses.scheduled import Scheduled
from opcd_bench.distillation.method import Method
from opcd_bench.errors import InvalidLoss
from opcd_bench.runner.contracts.contract import Contract, ContractBroken

SIZE_B, SIZE_T = 2, 3
LEAST_VOCABULARY = 64


class LossInputs(NamedTuple):
    """Tiny logits in float64: student and teacher (B, T, V), written ids and advantages (B, T)."""

    student_BTV: Tensor
    teacher_BTV: Tensor
    reply_ids_BT: Tensor
    advantage_BT: Tensor


class Value(NamedTuple):
    """A loss's two outputs (B, T), and the gradient of the summed surrogate (B, T, V)."""

    surrogate_BT: Tensor
    divergence_BT: Tensor
    gradient_BTV: Tensor


def vocabulary(method: Method) -> int:
    """Twice the loss's k, so that a top-k support leaves something outside."""
    k = method.loss.k if isinstance(method.loss, Divergence) else 256
    return max(LEAST_VOCABULARY, 2 * (k or 0))


def batch(method: Method, seed: int = 0) -> LossInputs:
    """A student, a teacher half a nat away from it, and written tokens."""
    generator = torch.Generator().manual_seed(seed)
    shape = (SIZE_B, SIZE_T, vocabulary(method))
    student = 2.0 * torch.randn(shape, generator=generator, dtype=torch.float64)
    teacher = student + 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
    ids = torch.randint(shape[-1], shape[:-1], generator=generator)
    advantages = torch.randn(shape[:-1], generator=generator, dtype=torch.float64)
    return LossInputs(student, teacher, ids, advantages)


def evaluate(method: Method, given: LossInputs) -> Value:
    """The method's loss on a batch, with its gradient; ContractBroken if the form is wrong.

    The rollout policy is the student. A loss that changes with training is what it begins as.
    """
    loss: Any = method.loss
    if isinstance(loss, Scheduled):
        loss = loss.at(loss.begin(), 0.0)
    rewards: dict[str, Tensor] = {}
    if isinstance(loss, PolicyGradient):
        rewards = {
            "sampler_logp": given.student_BTV.log_softmax(-1)
            .gather(-1, given.reply_ids_BT.unsqueeze(-1))
            .squeeze(-1),
            "advantage": given.advantage_BT,
        }
    student = given.student_BTV.clone().requires_grad_(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            surrogate, divergence = token_loss(
                loss, student, given.teacher_BTV, given.reply_ids_BT, **rewards
            )
        except InvalidLoss as error:
            raise ContractBroken(str(error)) from None
    if divergence.requires_grad:
        raise ContractBroken("the divergence is for the log alone; return it detached")
    (gradient,) = torch.autograd.grad(surrogate.sum(), student)
    return Value(surrogate.detach(), divergence, gradient)


def _shapes(method: Method) -> str:
    given = batch(method)
    evaluate(method, given)
    return f"(..., V) -> (...), V = {given.student_BTV.shape[-1]}"


def _finite(method: Method) -> str:
    given = batch(method)
    far = given._replace(student_BTV=15.0 * given.student_BTV)
    for name, case in (("ordinary", given), ("far apart", far)):
        for field, tensor in evaluate(method, case)._asdict().items():
            if not bool(torch.isfinite(tensor).all()):
                raise ContractBroken(f"{field} is not finite for {name} logits")
    single = far._replace(student_BTV=far.student_BTV.float(), teacher_BTV=far.teacher_BTV.float())
    if not bool(torch.isfinite(evaluate(method, single).gradient_BTV).all()):
        raise ContractBroken("the gradient is not finite in float32 for far logits")
    return "in float64 and float32"


def _sums_to_zero(method: Method) -> str:
    gradient = evaluate(method, batch(method)).gradient_BTV
    worst = float(gradient.sum(-1).abs().max())
    if worst > 1e-8 * max(1.0, float(gradient.abs().max())):
        raise ContractBroken(
            f"the logit gradient sums to {worst:.2e} at some position; a softmax's sums to 0"
        )
    return f"at most {worst:.0e}"


def _own_position(method: Method) -> str:
    given = batch(method)
    changed = batch(method, seed=1)
    student, teacher = given.student_BTV.clone(), given.teacher_BTV.clone()
    student[0, 0], teacher[0, 0] = changed.student_BTV[0, 0], changed.teacher_BTV[0, 0]
    before = evaluate(method, given)
    after = evaluate(method, given._replace(student_BTV=student, teacher_BTV=teacher))
    for name, first, second in (
        ("surrogate", before.surrogate_BT, after.surrogate_BT),
        ("divergence", before.divergence_BT, after.divergence_BT),
    ):
        moved = (first - second).abs().flatten()[1:]
        if float(moved.max()) > 1e-12:
            raise ContractBroken(f"new logits at one position changed the {name} at another")
    return ""


def _repeats(method: Method) -> str:
    first, second = (evaluate(method, batch(method)) for _ in range(2))
    if not torch.equal(first.gradient_BTV, second.gradient_BTV):
        raise ContractBroken("two calls on the same tensors give two gradients")
    return ""


def reads_teacher(method: Method) -> bool:
    """Whether another teacher gives another divergence or another gradient."""
    given = batch(method)
    other = given._replace(teacher_BTV=batch(method, seed=1).teacher_BTV)
    first, second = evaluate(method, given), evaluate(method, other)
    return not (
        torch.equal(first.divergence_BT, second.divergence_BT)
        and torch.equal(first.gradient_BTV, second.gradient_BTV)
    )


def _zero_at_the_teacher(method: Method) -> str:
    if not reads_teacher(method):
        return "reads no teacher: does not apply"
    given = batch(method)
    value = evaluate(method, given._replace(teacher_BTV=given.student_BTV.clone()))
    worst = float(value.divergence_BT.abs().max())
    gradient = float(value.gradient_BTV.abs().max())
    sharpened = isinstance(method.loss, Divergence) and method.loss.outside == "renormalise_teacher"
    if worst > 1e-9 and not sharpened:
        raise ContractBroken(f"the divergence is {worst:.2e} where teacher = student, not 0")
    if gradient > 1e-9:
        return f"the gradient is not: {gradient:.1e} (a truncated sum leaks; see rkl_trunc_sg)"
    return "value and gradient"


def _pulls_towards(method: Method) -> str:
    """Expected gradient over the written token, by enumeration, against both KLs' gradients."""
    best = max(_cosines(method).items(), key=lambda item: item[1])
    if method.control:
        return f"a control: cosine {best[1]:.2f} to {best[0]}"
    if best[1] <= 0.0:
        raise ContractBroken(
            f"in expectation the gradient points away from what is taught (cosine {best[1]:.2f} to "
            f"the gradient of {best[0]}): is a sign wrong?"
        )
    return f"cosine {best[1]:.2f} to the gradient of {best[0]}"


def _cosines(method: Method) -> Mapping[str, float]:
    given = batch(method, seed=2)
    student_V, teacher_V = given.student_BTV[0, 0], given.teacher_BTV[0, 0]
    size = student_V.shape[-1]
    worth_V = batch(method, seed=3).teacher_BTV[0, 0]
    every = LossInputs(
        student_V.expand(size, size), teacher_V.expand(size, size), torch.arange(size), worth_V
    )
    p_V, q_V = student_V.softmax(-1), teacher_V.softmax(-1)
    share = method.writer.teacher_share
    written_V = share * q_V + (1.0 - share) * p_V
    gradient_VV = evaluate(method, every).gradient_BTV  # one row a written token
    expected_V = written_V @ gradient_VV
    if float(expected_V.norm()) < 1e-9 * float(gradient_VV.norm()):
        expected_V = torch.zeros_like(expected_V)  # the terms cancel: rounding has no direction
    if isinstance(method.loss, PolicyGradient):
        if not method.loss.rewarded:
            every = every._replace(advantage_BT=torch.ones_like(worth_V))
            expected_V = p_V @ evaluate(method, every).gradient_BTV
            return {"nothing": 0.0 if float(expected_V.norm()) < 1e-9 else 1.0}
        target_V = -p_V * (worth_V - (p_V * worth_V).sum())
        return {
            "the expected reward, falling": float(
                torch.nn.functional.cosine_similarity(expected_V, target_V, dim=0)
            )
        }
    ratio_V = p_V.log() - q_V.log()
    targets = {
        "the reverse KL": p_V * (ratio_V - (p_V * ratio_V).sum()),
        "the forward KL": p_V - q_V,
    }
    return {
        name: float(torch.nn.functional.cosine_similarity(expected_V, target, dim=0))
        for name, target in targets.items()
    }


def _described(method: Method) -> str:
    told = dict(method.describe())
    if json.loads(json.dumps(told, allow_nan=False)) != told:
        raise ContractBroken("describe() is not made of JSON values alone")
    if isinstance(method.loss, Divergence) and "k" not in told["loss"]:
        raise ContractBroken("describe() does not hold the loss's k")
    loss = told["loss"]
    return str(loss["id"] if "id" in loss else loss["callable"])


def _first_stage(method: Method) -> str:
    if method.begins is None:
        return "has one stage: does not apply"
    first = method.parts[0]
    for held in (_shapes, _finite, _sums_to_zero, _own_position, _pulls_towards):
        held(first)
    return f"the first {method.begins.share:.0%} of the steps"


def _state(method: Method) -> str:
    """Its state is a few numbers, of which each step makes new ones; where it ends is a loss."""
    loss: Any = method.loss
    if not isinstance(loss, Scheduled):
        return "does not change with training: does not apply"
    state = loss.begin()
    for step, value in enumerate((1.0, 0.5, 0.8), 1):
        before = dict(state)
        one, two = (loss.after(state, step / 3, value) for _ in range(2))
        if dict(state) != before:
            raise ContractBroken("after() changes the state that it is given; return a new one")
        if dict(one) != dict(two):
            raise ContractBroken("after() gives two states for the same step")
        odd = [k for k, v in one.items() if isinstance(v, bool) or not isinstance(v, int | float)]
        if odd or one.keys() != before.keys():
            raise ContractBroken(
                f"its state has {', '.join(map(repr, odd or one.keys() ^ before.keys()))}; it is "
                "the same few numbers at every step, since they lie in the checkpoint"
            )
        state = one
    last = replace(method, loss=loss.at(state, 1.0))
    for held in (_shapes, _finite, _sums_to_zero, _own_position, _pulls_towards):
        held(last)
    return f"{', '.join(state)}; its last form keeps what its first does"


METHOD_CONTRACTS: tuple[Contract[Method], ...] = (
    Contract("describes itself in JSON values", _described),
    Contract("its loss gives two values for each token", _shapes),
    Contract("its values and gradients are finite", _finite),
    Contract("its logit gradient sums to zero at every position", _sums_to_zero),
    Contract("each token's loss reads its own position alone", _own_position),
    Contract("the same tensors give the same values", _repeats),
    Contract("its divergence is zero where teacher = student", _zero_at_the_teacher),
    Contract("its expected gradient pulls towards the teacher", _pulls_towards),
    Contract("its first stage keeps the same", _first_stage),
    Contract("its state is numbers that each step makes anew", _state),
)
