"""Advantages of replies: what each is worth beside the others of its example in a step."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
from opcd_bench.rollout.trajectory import Skipped, Trajectory

SMALL = 1e-4
"""Added to a standard deviation, as TRL does: replies of one reward have advantage 0."""


def advantages(loss: PolicyGradient, trajectories: Sequence[Trajectory | Skipped]) -> list[float]:
    """One a trajectory. The reward is the task's own grade, 0 where no answer could be read.

    Replies that were skipped or failed are in no group, and have 0: no pair is made of them.
    """
    if not loss.rewarded:
        return [1.0] * len(trajectories)
    groups: dict[str, list[float]] = {}
    for one in trajectories:
        if _graded(one):
            groups.setdefault(one.example_id, []).append(_reward(one))
    found = []
    for one in trajectories:
        group = groups.get(one.example_id, [])
        if not _graded(one) or len(group) < 2:
            found.append(0.0)
            continue
        spread = stdev(group) + SMALL if loss.advantage == "group" else 1.0
        found.append((_reward(one) - fmean(group)) / spread)
    return found


def _graded(one: Trajectory | Skipped) -> bool:
    return isinstance(one, Trajectory) and one.outcome != "failed"


def _reward(one: Trajectory | Skipped) -> float:
    assert isinstance(one, Trajectory)
    return one.grade.score or 0.0
