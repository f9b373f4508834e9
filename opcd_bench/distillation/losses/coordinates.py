"""The coordinates of a token-level loss: each choice by itself, with the words that it may have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Direction = Literal[
    "reverse_kl",
    "forward_kl",
    "jsd",
    "skew_forward",
    "skew_reverse",
    "interpolated",
    "negative_log_likelihood",
]
Support = Literal[
    "full",
    "student_top_k",
    "teacher_top_k",
    "union",
    "intersection",
    "teacher_top_k_and_sampled",
    "sampled",
]
Outside = Literal[
    "none", "drop", "generalised", "tail", "renormalise", "renormalise_teacher", "sampled", "leak"
]
Gradient = Literal["through", "stop_gradient", "stop_gradient_weight", "score_function"]
Estimator = Literal["exact", "k1", "k2", "k3"]
MissingIds = Literal["refuse", "drop", "floor"]

CHOICES: Mapping[str, tuple[str, ...]] = {
    "direction": get_args(Direction),
    "support": get_args(Support),
    "outside": get_args(Outside),
    "gradient": get_args(Gradient),
    "estimator": get_args(Estimator),
    "missing_ids": get_args(MissingIds),
}
"""The words that each coordinate may have."""

TOP_K_SUPPORTS = tuple(word for word in CHOICES["support"] if word not in ("full", "sampled"))


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """A point in the space of token-level losses between student p and teacher q, unchecked.

    Attributes:
        direction: `reverse_kl` KL(p||q), `forward_kl` KL(q||p), `jsd`, `skew_forward`
            KL(q||alpha q + (1-alpha) p), `skew_reverse` KL(p||(1-alpha) q + alpha p),
            `interpolated` KL(m||p) to the detached m ~ p^(1-alpha) q^alpha, or
            `negative_log_likelihood` of the written token.
        support: the token set S that the sum runs over, chosen afresh at every position without a
            gradient. `sampled` is the written token y alone.
        k: size of a top-k support.
        outside: the mass outside S. `drop` ignores it, `generalised` adds -p+q on S, `tail` makes
            it one bucket, `renormalise` divides both by their mass on S, `renormalise_teacher`
            only the teacher, `sampled` adds y's own term where y is not in S, `leak` sums it
            exactly and adds the gradient of the student's mass on S (broken).
        gradient: `through` differentiates the expression; `stop_gradient` detaches the log-ratio
            and keeps the weight p; `stop_gradient_weight` detaches the weight (broken);
            `score_function` multiplies a detached coefficient by log p(y).
        estimator: `exact` sum, or the function of y's log-ratio: `k1` l, `k2` l^2/2,
            `k3` exp(-l) - 1 + l.
        beta: weight of the teacher in JSD's mixture (the student has 1 - beta).
        alpha: weight of the skewed KLs' own first argument in the mixture; of the teacher's logits
            in `interpolated`.
        clip: cap in nats on each vocabulary term (broken).
        baseline: subtracted from a score-function coefficient: a number, or `reverse_kl`.
        importance_weight: multiply the sampled term by p(y) / sampler(y), detached.
        missing_ids: what becomes of student-chosen ids that a listed teacher lacks: `refuse`,
            `drop` from S, or `floor` (the smallest log-prob among the k likeliest that it listed).
        allow_broken: build a loss that is wrong by construction, as a positive control.

    """

    direction: Direction
    support: Support = "full"
    k: int | None = None
    outside: Outside = "none"
    gradient: Gradient = "through"
    estimator: Estimator = "exact"
    beta: float | None = None
    alpha: float | None = None
    clip: float | None = None
    baseline: float | Literal["reverse_kl"] = 0.0
    importance_weight: bool = False
    missing_ids: MissingIds = "refuse"
    allow_broken: bool = field(default=False, compare=False)
