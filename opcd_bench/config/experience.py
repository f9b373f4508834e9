"""How each round of a chain makes its context from the student's own attempts: one table."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Variant = Literal["memoryless", "with-previous", "raw-traces"]
"""What an item of a context is made of: see `experience.recipe.Recipe`."""

Rule = Literal["newest", "newest-with-repeats", "consensus"]
"""Which items a context keeps: see `experience.items.accumulated`."""


class Experience(BaseModel):
    """``[experience]`` of a suite: the options of `opcd-bench extract` and `select` of those names.

    Attempts are drawn as the writer of training draws its replies, reflections greedily, and
    candidates are scored as every evaluation on dev is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    items: int = Field(
        default=30, description="Attempts of each sampling seed, in every round.", ge=1
    )
    seeds: int = Field(default=1, description="Sampling seeds of a round: a candidate each.", ge=1)
    variant: Variant = Field(
        default="memoryless", description="Lessons, or raw traces (the control)."
    )
    accumulate: Rule = Field(default="newest", description="Which items a context keeps.")
    max_context_tokens: int = Field(default=1024, description="Most tokens of a context.", ge=1)
    max_reflection_length: int = Field(
        default=512, description="Most tokens of a reflection.", ge=1
    )
    select: str = Field(
        default="best",
        description="Which candidate is told: best (on dev), random, or first-N (a pool of N).",
        pattern=r"^(best|random|first-[1-9]\d*)$",
    )
    prompts: Literal["auto", "micro", "general"] = Field(
        default="auto",
        description="Words of the reflections: auto, micro (built-in model) or general.",
    )
