"""How contexts are made from a model's own attempts, and one is chosen: each setting once."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from opcd_bench.config.bounds import COUNT, LENGTH, REPEATS
from opcd_bench.store.user_files import bad_text

Variant = Literal["memoryless", "with-previous", "raw-traces"]
"""What an item of a context is made of: see `experience.recipe.Recipe`."""

Rule = Literal["newest", "newest-with-repeats", "consensus"]
"""Which items a context keeps: see `experience.items.accumulated`."""

Stage = Literal["traces", "reflections", "items", "contexts"]
"""What `opcd-bench extract` makes, in this order."""
STAGES: tuple[Stage, ...] = get_args(Stage)


class Declared(BaseModel):
    """Settings that are declared once: frozen, strict, none but the declared."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        refuse_no_text(value)
        return value


def refuse_no_text(value: Any) -> None:
    """Raise ValueError for a text, in a setting or a list of it, that no file or prompt takes."""
    for one in value if isinstance(value, list | tuple) else [value]:
        if isinstance(one, str) and (problem := bad_text(one)):
            raise ValueError(problem)


class Extraction(Declared):
    """How attempts become contexts: options of `opcd-bench extract`, keys of `[experience]`."""

    items: int = Field(default=30, description="Attempts per sampling seed.", ge=1, le=COUNT)
    seeds: int = Field(
        default=10,
        description="Number of sampling seeds; each seed makes one context.",
        ge=1,
        le=REPEATS,
    )
    variant: Variant = Field(
        default="memoryless",
        description="What a context holds: lessons from each attempt alone (memoryless), lessons "
        "written with the earlier ones in view (with-previous), or the attempts themselves "
        "(raw-traces, the control).",
    )
    accumulate: Rule = Field(
        default="newest",
        description="Which lessons a context keeps: newest (each once), newest-with-repeats, or "
        "consensus (of those with the same first word, the most frequent).",
    )
    max_context_tokens: int = Field(
        default=1024, description="Maximum tokens per context.", ge=1, le=LENGTH
    )
    max_reflection_length: int = Field(
        default=512, description="Maximum tokens per reflection.", ge=1, le=LENGTH
    )
    prompts: Literal["auto", "micro", "general"] = Field(
        default="auto",
        description="Prompts that ask for reflections: micro (made for the built-in model), "
        "general (for any other), or auto (micro for the built-in model, otherwise general).",
    )

    @model_validator(mode="after")
    def _attempts(self) -> Self:
        if self.items * self.seeds > COUNT:
            raise ValueError(
                f"items x seeds = {self.items} x {self.seeds} attempts; the most is {COUNT:,}. "
                "Lower one of them"
            )
        return self


class Choice(Declared):
    """How one context of several is chosen: option of `opcd-bench select`, key of `[experience]`.

    The rule's N may be more than there are contexts, which `experience.select` refuses.
    """

    select: str = Field(
        default="best",
        description="Which context is used: the best on dev (best), one drawn at random (random), "
        "or the first N as a pool (first-N, such as first-3).",
        pattern=r"^(best|random|first-[1-9]\d*)$",
    )


class Experience(Extraction, Choice):
    """``[experience]`` of a suite: how each round makes and chooses its context.

    Attempts are drawn as the writer of training draws its replies, reflections greedily, and
    candidates are scored as every evaluation on dev is.
    """

    # On purpose not extract's 10: every round of every chain pays for its seeds.
    seeds: int = Field(
        default=1,
        description="Number of sampling seeds per round; each seed makes one candidate context.",
        ge=1,
        le=REPEATS,
    )
