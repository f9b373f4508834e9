"""Which combinations of loss coordinates are refused, each with its one sentence of mathematics.

A loss that is wrong whatever the data (its expected gradient ignores the teacher, or is zero) may
still be built with `allow_broken=True`, as a positive control for diagnostics. A combination that
means nothing at all is always refused.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from typing import NamedTuple

from opcd_bench.distillation.losses.coordinates import CHOICES, TOP_K_SUPPORTS, Coordinates


class Refusal(NamedTuple):
    """Why one combination is refused; `control` ones are let through by `allow_broken=True`."""

    what: str
    why: str
    instead: str
    control: bool = False
    warns: bool = False  # a number of a sweep can walk into it, so a control says it aloud

    def __str__(self) -> str:
        way_out = " (as a positive control it needs allow_broken=True)" if self.control else ""
        return f"{self.what}: {self.why} {self.instead}{way_out}"


_WITH_ALPHA = ("skew_forward", "skew_reverse", "interpolated")


def refusals(loss: Coordinates) -> list[Refusal]:
    """Return everything that is wrong with `loss`; an empty list means that it is sound."""
    values = list(_bad_values(loss))
    if values:  # the rules below assume that every word is a known one
        return values
    return [*_support_rules(loss), *_estimator_rules(loss), *_gradient_rules(loss)]


def _bad_values(loss: Coordinates) -> Iterator[Refusal]:
    """Each field by itself: known words, numbers within their ranges."""
    for name, allowed in CHOICES.items():
        value = getattr(loss, name)
        if name == "missing_ids" and value == "student":
            yield Refusal(
                "missing_ids='student'",
                "filling an absent id with the student's own log-prob makes the log-ratio 0 on "
                "exactly the tokens that the teacher rejects, and inflates the teacher's mass.",
                "Write missing_ids='drop' or missing_ids='floor'.",
            )
        elif value not in allowed:
            near = difflib.get_close_matches(str(value), allowed, n=1)
            guess = f"Did you mean {near[0]!r}? " if near else ""
            yield Refusal(
                f"{name}={value!r}", "no such word.", f"{guess}Write one of {', '.join(allowed)}."
            )
    top_k = loss.support in TOP_K_SUPPORTS
    if top_k and (type(loss.k) is not int or loss.k < 1):
        yield Refusal(
            f"support={loss.support!r} with k={loss.k!r}",
            "a top-k support needs a whole number of tokens, at least 1.",
            "Write for example k=256.",
        )
    if not top_k and loss.k is not None:
        yield Refusal(
            f"support={loss.support!r} with k={loss.k!r}",
            "only a top-k support has a k.",
            "Leave k out, or write support='student_top_k'.",
        )
    for name, users in (("beta", ("jsd",)), ("alpha", _WITH_ALPHA)):
        value = getattr(loss, name)
        if loss.direction not in users:
            if value is not None:
                yield Refusal(
                    f"{name}={value!r} with direction={loss.direction!r}",
                    "this direction has no mixture.",
                    f"Leave {name} out, or write direction={users[0]!r}.",
                )
        elif not is_number(value) or not 0.0 < value < 1.0:
            yield Refusal(
                f"{name}={value!r}",
                f"the mixture needs 0 < {name} < 1; at the ends the divergence is 0 or a plain KL "
                "of another scale.",
                "Write a value inside, or direction='reverse_kl' or 'forward_kl'.",
            )
    if loss.clip is not None and (not is_number(loss.clip) or loss.clip <= 0):
        yield Refusal(f"clip={loss.clip!r}", "a cap is a positive number of nats.", "Leave it out.")
    if loss.baseline != "reverse_kl" and not is_number(loss.baseline):
        yield Refusal(
            f"baseline={loss.baseline!r}",
            "a baseline must not depend on the sampled token.",
            "Write a finite number or 'reverse_kl'.",
        )


def _support_rules(loss: Coordinates) -> Iterator[Refusal]:
    """Support against outside mass, and what a missing id may become."""
    top_k = loss.support in TOP_K_SUPPORTS
    if loss.support == "full" and loss.outside != "none":
        yield Refusal(
            f"support='full' with outside={loss.outside!r}",
            "no mass is outside the whole vocabulary.",
            "Leave outside out, or name a top-k support.",
        )
    if top_k and loss.outside == "none":
        yield Refusal(
            f"support={loss.support!r} without outside",
            "the mass outside the support decides what the loss is minimised by, so it must be "
            "named.",
            "Write outside='tail', 'generalised', 'renormalise' or 'drop'.",
        )
    if loss.support == "sampled" and loss.outside not in ("none", "tail"):
        yield Refusal(
            f"support='sampled' with outside={loss.outside!r}",
            "one token renormalised is 1 for every model, and one token alone says nothing of "
            "the rest.",
            "Write outside='tail' (two buckets) or an estimator: k2, k3.",
        )
    if loss.outside == "renormalise_teacher" and loss.direction != "forward_kl":
        yield Refusal(
            f"outside='renormalise_teacher' with direction={loss.direction!r}",
            "the student's weights on the support do not sum to a constant, so student mass leaks "
            "out of it whatever the teacher says.",
            "Write outside='renormalise' or 'tail'.",
        )
    if loss.direction in ("jsd", *_WITH_ALPHA) and loss.outside in ("drop", "generalised"):
        yield Refusal(
            f"direction={loss.direction!r} with outside={loss.outside!r}",
            "a mixture divergence of masses that do not sum to 1 is not minimised at p = q.",
            "Write outside='tail' or 'renormalise'.",
        )
    if loss.outside == "renormalise" and loss.k == 1 and top_k:
        if loss.support not in ("union", "teacher_top_k_and_sampled"):
            yield Refusal(
                "outside='renormalise' with k=1",
                "a distribution renormalised on one token is 1 for every model: value 0, "
                "gradient 0.",
                "Write k of at least 2, or outside='tail'.",
                control=True,
                warns=True,
            )
    if loss.outside == "sampled" and top_k:
        if loss.direction != "reverse_kl" or loss.support == "teacher_top_k_and_sampled":
            yield Refusal(
                f"outside='sampled' with direction={loss.direction!r}, support={loss.support!r}",
                "the sampled remainder is unbiased only for the reverse KL and a support chosen "
                "without looking at the sample.",
                "Write direction='reverse_kl' and support='teacher_top_k' or 'student_top_k'.",
            )
    if loss.outside == "leak" and top_k:
        plain = loss.direction == "reverse_kl" and loss.missing_ids == "refuse"
        yield Refusal(
            f"outside='leak' with direction={loss.direction!r}",
            "to a sum over the whole vocabulary it adds the gradient of the student's mass on the "
            "support, which no teacher is in.",
            "Write named('rkl_full').",
            control=plain and (loss.gradient, loss.estimator) == ("through", "exact"),
        )
    if loss.missing_ids != "refuse":
        if loss.support not in ("student_top_k", "union"):
            yield Refusal(
                f"missing_ids={loss.missing_ids!r} with support={loss.support!r}",
                "no id can be missing where the teacher's own list is the support.",
                "Leave missing_ids out.",
            )
        elif loss.missing_ids == "floor" and loss.outside in ("tail", "sampled"):
            yield Refusal(
                f"missing_ids='floor' with outside={loss.outside!r}",
                "the fills inflate the teacher's mass on the support, so the rest is not its tail.",
                "Write missing_ids='drop'.",
            )


def _estimator_rules(loss: Coordinates) -> Iterator[Refusal]:
    """Exact sums against sampled values, and what only samples may have."""
    likelihood = loss.direction == "negative_log_likelihood"
    if likelihood and (loss.support, loss.outside, loss.estimator, loss.gradient) != (
        "sampled",
        "none",
        "exact",
        "through",
    ):
        yield Refusal(
            "direction='negative_log_likelihood' with other coordinates",
            "it is the plain cross-entropy of the written token and reads no teacher.",
            "Write named('nll').",
        )
    if loss.support == "sampled" and not likelihood:
        if loss.direction != "reverse_kl":
            yield Refusal(
                f"support='sampled' with direction={loss.direction!r}",
                "from one token written by the student only the reverse KL is estimated.",
                "Write direction='reverse_kl', or another support.",
            )
        if (loss.outside == "tail") != (loss.estimator == "exact"):
            yield Refusal(
                f"support='sampled' with outside={loss.outside!r}, estimator={loss.estimator!r}",
                "one sampled token is either an estimator (k1, k2, k3) or a bucket against the "
                "rest (exact).",
                "Write outside='tail' with estimator='exact', or outside='none' with k1, k2, k3.",
            )
    if loss.support != "sampled" and loss.estimator != "exact":
        yield Refusal(
            f"estimator={loss.estimator!r} with support={loss.support!r}",
            "k1, k2 and k3 are functions of the sampled token's log-ratio alone.",
            "Write support='sampled', or leave the estimator out.",
        )
    policy_gradient = loss.support == "sampled" and loss.gradient == "score_function"
    if loss.baseline != 0.0 and not policy_gradient:
        yield Refusal(
            f"baseline={loss.baseline!r} with gradient={loss.gradient!r}",
            "only a score-function gradient has a coefficient to subtract it from.",
            "Write gradient='score_function' on support='sampled'.",
        )
    if loss.importance_weight and not policy_gradient and loss.outside != "sampled":
        yield Refusal(
            "importance_weight=True",
            "there is no sampled term in an exact sum, and a pathwise sampled loss weighted by "
            "p/mu is another loss.",
            "Write gradient='score_function' on support='sampled', or outside='sampled'.",
        )


def _gradient_rules(loss: Coordinates) -> Iterator[Refusal]:
    """How the gradient is taken: the products whose factors may not be detached."""
    reverse, exact = loss.direction == "reverse_kl", loss.estimator == "exact"
    if loss.estimator == "k1" and loss.gradient == "through":
        yield Refusal(
            "estimator='k1' with gradient='through'",
            "the expected gradient of log p(y) - log q(y) over y ~ p is E[grad log p(y)] = 0, and "
            "under any other sampler it is that sampler's artefact; no teacher is in it.",
            "Write estimator='k2' (same expected gradient as the reverse KL), or "
            "gradient='score_function'.",
            control=True,
        )
    if loss.clip is not None:
        plain = loss.support == "full" and loss.gradient == "through" and exact
        yield Refusal(
            f"clip={loss.clip!r}",
            "the vocabulary terms of a KL are individually signed; capping the positive ones "
            "leaves the negative ones to pull the other way.",
            "Write no clip here (clip a detached coefficient, or the gradient norm).",
            control=plain and loss.direction in ("reverse_kl", "forward_kl"),
        )
    if loss.outside == "sampled" and loss.gradient != "stop_gradient":
        yield Refusal(
            f"outside='sampled' with gradient={loss.gradient!r}",
            "the sum over the support does not run over a constant mass, so the gradient of that "
            "mass must be stopped for the total to be the reverse KL's.",
            "Write gradient='stop_gradient'.",
        )
    if loss.gradient in ("stop_gradient", "stop_gradient_weight") and not (reverse and exact):
        yield Refusal(
            f"gradient={loss.gradient!r} with direction={loss.direction!r}, "
            f"estimator={loss.estimator!r}",
            "detaching a factor is exact only for the products p * log(p/q) of the reverse KL.",
            "Write gradient='through'.",
        )
    elif loss.gradient != "through" and loss.outside == "generalised":
        yield Refusal(
            f"gradient={loss.gradient!r} with outside='generalised'",
            "the correction -p+q already removes the gradient of the support's mass; detaching as "
            "well removes it twice.",
            "Write gradient='through', or outside='drop' with gradient='stop_gradient'.",
        )
    elif loss.gradient == "stop_gradient" and loss.outside not in ("drop", "sampled"):
        yield Refusal(
            f"gradient='stop_gradient' with outside={loss.outside!r}",
            "the weights sum to a constant, so detaching the log-prob changes nothing.",
            "Write gradient='through' (the same loss under its one name).",
            control=True,
        )
    elif loss.gradient == "stop_gradient_weight":
        yield Refusal(
            "gradient='stop_gradient_weight'",
            "with the weight detached, the gradient of sum p * log(p/q) is that of the student's "
            "mass on the support: no teacher is in it.",
            "Write gradient='stop_gradient' (detaches the student's log-prob, keeps the weight).",
            control=True,
        )
    if loss.gradient == "score_function" and exact:
        yield Refusal(
            f"gradient='score_function' with support={loss.support!r}, estimator='exact'",
            "the coefficient is then a scalar of the prefix alone, that is a baseline, and its "
            "expected gradient is exactly 0.",
            "Write support='sampled' with estimator='k1', or outside='sampled' on a top-k support.",
            control=reverse and loss.outside in ("none", "drop"),
        )


def is_number(value: object) -> bool:
    """Tell a finite real number from everything else, booleans included."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
