"""Losses that change as training goes on: a pure value at each step, and a small state."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from opcd_bench.distillation.losses.divergence import Divergence, named
from opcd_bench.distillation.losses.rules import is_number
from opcd_bench.errors import InvalidLoss

State = Mapping[str, float]
"""A few numbers by name. They lie in the checkpoint, and in train.jsonl as ``loss_<name>``."""


@runtime_checkable
class Scheduled(Protocol):
    """A loss whose form depends on how far training is and on what it came to before.

    Nothing is kept in the object: the trainer keeps the state, and hands it back.
    """

    @property
    def metric(self) -> str:
        """What the logged divergence is called."""
        ...

    def begin(self) -> State:
        """The state before the first step."""
        ...

    def at(self, state: State, progress: float) -> Any:
        """The loss of a step: a Divergence or a callable. ``progress``: steps done, in [0, 1)."""
        ...

    def after(self, state: State, progress: float, value: float) -> State:
        """The state after a step whose loss was ``value``; ``progress`` counts it, in (0, 1]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Taid:
    """Temporally adaptive interpolated distillation (arXiv 2501.16937, Algorithm 1).

    The student learns from the teacher seen through itself: KL(m||p) to the detached m ~ p^(1-t)
    q^t. t goes from ``t_start`` to ``t_end``: after every step by ``step`` sigmoid(v) (1 - t), v a
    moving mean (``momentum``) of the relative fall of the loss, and never slower than linearly.
    """

    t_start: float = 0.4
    t_end: float = 1.0
    step: float = 5e-4
    momentum: float = 0.99

    id = "taid"
    metric = "interpolated"
    teacher_needs = "F"
    on_policy_only = False

    def __post_init__(self) -> None:
        values = (self.t_start, self.t_end, self.step, self.momentum)
        if not all(map(is_number, values)):
            raise InvalidLoss(f"taid: t_start, t_end, step and momentum are numbers, not {values}.")
        if not 0.0 < self.t_start <= self.t_end <= 1.0:
            raise InvalidLoss(
                f"taid: t_start={self.t_start}, t_end={self.t_end}: 0 < t_start <= t_end <= 1 is "
                "needed (at 0 the student would learn from itself). Write t_start=0.4, t_end=1."
            )
        if not 0.0 <= self.step <= 1.0 or not 0.0 <= self.momentum < 1.0:
            raise InvalidLoss(
                f"taid: step={self.step} lies in [0, 1] and momentum={self.momentum} in [0, 1)."
            )

    def begin(self) -> State:
        """t, the moving mean, and the loss before (infinite: there is none)."""
        return {"t": self.t_start, "fall": 0.0, "before": math.inf}

    def at(self, state: State, progress: float) -> Divergence:
        """The KL to the interpolated teacher at t; at 1 the plain forward KL."""
        return interpolated(state["t"])

    def after(self, state: State, progress: float, value: float) -> State:
        """The next t; the first step moves it along the line alone, having no loss before it."""
        before, fall, moved = state["before"], state["fall"], 0.0
        if math.isfinite(before):
            relative = (before - value) / (before + 1e-15)
            fall = self.momentum * fall + (1.0 - self.momentum) * relative
            moved = self.step * _sigmoid(fall) * (1.0 - state["t"])
        line = self.t_start + (self.t_end - self.t_start) * progress
        t = min(self.t_end, max(line, state["t"] + moved))
        return {"t": t, "fall": fall, "before": value}

    def describe(self) -> dict[str, Any]:
        """The name, every choice and the derived facts, as plain JSON values."""
        return {
            "id": self.id,
            "t_start": self.t_start,
            "t_end": self.t_end,
            "step": self.step,
            "momentum": self.momentum,
            "teacher_needs": self.teacher_needs,
            "metric": self.metric,
            "on_policy_only": self.on_policy_only,
            "broken": False,
        }


def forms(loss: Any) -> list[Any]:
    """What a loss is; one that changes at the first step, and where the schedule alone takes it."""
    if not isinstance(loss, Scheduled):
        return [loss]
    first = loss.begin()
    last = loss.after(first, 1.0, 0.0)
    return [loss.at(first, 0.0), loss.at(last, 1.0)]


def interpolated(t: float) -> Divergence:
    """The KL to the teacher seen through the student, at a share t of the teacher."""
    return named("fkl_full") if t >= 1.0 else named("interp", alpha=t)


def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(x, -700.0)))
