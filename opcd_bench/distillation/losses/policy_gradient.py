"""A loss of rewards in the place of a teacher: its choices, checked, without importing torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from opcd_bench.distillation.losses.rules import is_number
from opcd_bench.errors import InvalidLoss

Advantage = Literal["group", "centred", "constant"]


@dataclass(frozen=True, kw_only=True)
class PolicyGradient:
    """The clipped policy gradient of group-relative advantages (GRPO, arXiv 2402.03300, Eq. 3).

    Of a token written by the rollout policy mu, with r = p(y) / mu(y) and its reply's advantage A:
    ``-min(r A, clamp(r, 1 - clip, 1 + clip_high) A) + kl * k3``, where k3 estimates KL(p||q) to the
    method's teacher q from y alone. There is no value network.

    Attributes:
        clip: how far below 1 the ratio counts.
        clip_high: how far above; None: as ``clip``.
        kl: weight of the KL to the teacher; 0: no teacher is asked.
        advantage: ``group`` (reward - mean) / (standard deviation + 1e-4) over the replies to one
            example in a step, ``centred`` reward - mean, or ``constant`` 1 whatever the reward
            (broken: its expected gradient is 0).
        allow_broken: build it with a constant advantage, as a control.

    """

    clip: float = 0.2
    clip_high: float | None = None
    kl: float = 0.0
    advantage: Advantage = "group"
    allow_broken: bool = field(default=False, compare=False)

    id = "policy_gradient"
    on_policy_only = True
    importance_weight = True

    def __post_init__(self) -> None:
        if self.advantage not in get_args(Advantage):
            raise InvalidLoss(
                f"advantage={self.advantage!r}: no such word. Write one of "
                f"{', '.join(get_args(Advantage))}."
            )
        if not is_number(self.clip) or not 0.0 < self.clip < 1.0:
            raise InvalidLoss(f"clip={self.clip!r} must lie between 0 and 1. Write clip=0.2.")
        if self.clip_high is not None and not (is_number(self.clip_high) and self.clip_high > 0):
            raise InvalidLoss(f"clip_high={self.clip_high!r} must be above 0, or none: as clip.")
        if not is_number(self.kl) or self.kl < 0:
            raise InvalidLoss(f"kl={self.kl!r}: the weight of a KL is 0 or more. Write kl=0.04.")
        if self.broken and not self.allow_broken:
            raise InvalidLoss(
                "advantage='constant': a coefficient that no reward is in is a baseline, whose "
                "expected gradient is exactly 0. Write advantage='group' (as a control it needs "
                "allow_broken=True)"
            )

    @property
    def broken(self) -> bool:
        """Whether it is wrong by construction, and exists only as a control."""
        return self.advantage == "constant"

    @property
    def rewarded(self) -> bool:
        """Whether it reads grades of several replies to an example."""
        return self.advantage != "constant"

    @property
    def teacher_needs(self) -> Literal["Y", "none"]:
        """The written token's log-prob, or nothing."""
        return "Y" if self.kl else "none"

    @property
    def metric(self) -> str:
        """Name of what `TokenLoss.divergence` holds: k3 to the teacher or the rollout policy."""
        return "reverse_kl_estimate" if self.kl else "rollout_kl_estimate"

    def describe(self) -> dict[str, Any]:
        """The name, every choice and the derived facts, as plain JSON values."""
        return {
            "id": self.id,
            "clip": self.clip,
            "clip_high": self.clip_high,
            "kl": self.kl,
            "advantage": self.advantage,
            "teacher_needs": self.teacher_needs,
            "metric": self.metric,
            "on_policy_only": self.on_policy_only,
            "rewarded": self.rewarded,
            "broken": self.broken,
        }
