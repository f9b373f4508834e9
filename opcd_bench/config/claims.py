"""The claims that a suite is run for: what is contrasted, and from which effect on it counts."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from opcd_bench.config.experience import Declared

Measure = Literal["accuracy", "gap closed", "change", "rescue", "mismatch"]
"""Accuracy on test; the share of the gap to the method's own ceiling that is closed; accuracy less
the base's; and of a prefix probe what is rescued, and the accuracy lost on the student's tokens."""
Direction = Literal["above", "below", "alike", "at least", "at most"]
WITHIN = ("alike", "at least", "at most")
"""Directions that allow a difference, up to the threshold."""
PROBED = ("rescue", "mismatch")
BASE = "base"
"""What an arm has in a method's place: the student before training."""


class Claim(Declared):
    """A claim as it is tested, stated before the runs.

    ``first`` and ``second`` are arms, ``METHOD on TASK`` (an arm that was not run leaves the claim
    open); without a second the first is compared with 0, and its whole interval must count. A
    probed measure has the ``teacher`` that goes on, and the ``share`` of the student's tokens that
    it goes on from.
    """

    text: str = Field(description="The claim, in one sentence.", min_length=1)
    first: str = Field(description="An arm: METHOD on TASK.", pattern=r"^\S.* on \S+$")
    second: str | None = Field(
        default=None, description="The arm that it is compared with.", pattern=r"^\S.* on \S+$"
    )
    measure: Measure = Field(default="accuracy", description="What is compared.")
    direction: Direction = Field(
        default="above",
        description="Whether the first lies above the second, below, alike, at least where the "
        "second does, or at most.",
    )
    threshold: float = Field(
        default=0.0,
        description="The least effect that counts; of alike, at least and at most: how much "
        "worse or better counts as nothing.",
        ge=0,
        lt=10,
    )
    teacher: str | None = Field(default=None, description="Of a probed measure: who goes on.")
    share: float | None = Field(
        default=None,
        description="Of a probed measure: after which share of the tokens.",
        ge=0,
        lt=1,
    )

    def arms(self) -> list[tuple[str, str]]:
        """Each arm behind the field that names it: first, and second where there is one."""
        named = [("first", self.first), ("second", self.second)]
        return [(which, words) for which, words in named if words is not None]

    @model_validator(mode="after")
    def _testable(self) -> Self:
        probed = self.measure in PROBED
        if probed != (self.teacher is not None) or probed != (self.share is not None):
            raise ValueError(
                f"claim {self.text!r}: teacher and share belong to the measures "
                f"{' and '.join(PROBED)}, which need both"
            )
        if self.direction in WITHIN and self.threshold == 0:
            raise ValueError(
                f"claim {self.text!r}: {self.direction} needs a threshold above 0, within which a "
                "difference counts as none"
            )
        if self.direction == "at least" and self.second is None:
            raise ValueError(f"claim {self.text!r}: at least needs a second arm; or say above")
        return self


def arm(words: str) -> tuple[str, str]:
    """``opcd[k=4] on rule_math`` as method and task."""
    method, _, task = words.rpartition(" on ")
    return method.strip(), task.strip()
