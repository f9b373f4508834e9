"""A suite's settings: frozen, strict, defaulted once, each classed as identity or runtime."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError, model_validator

from opcd_bench.config import rules
from opcd_bench.config.fields import GRID_FIELDS, Settings
from opcd_bench.errors import ConfigError


class Suite(Settings):
    """Methods x tasks x learning rates x seeds, and every setting that they share.

    Raises from the constructor what `rules.refuse_inconsistent` says of settings that contradict
    each other.
    """

    @model_validator(mode="after")
    def _consistent(self) -> Suite:
        rules.refuse_inconsistent(self)
        return self

    def identity(self) -> dict[str, Any]:
        """The fields that numbers depend on, as JSON values."""
        return {
            key: value
            for key, value in self.model_dump(mode="json").items()
            if is_identity(key)
            and not (_is_later(key) and value == Suite.model_fields[key].default)
        }

    def shared_identity(self) -> dict[str, Any]:
        """The identity fields that a single cell shares: without what the grid is made of."""
        return {key: value for key, value in self.identity().items() if key not in GRID_FIELDS}


def is_identity(field: str) -> bool:
    """Whether a field of Suite enters the identity."""
    extra = Suite.model_fields[field].json_schema_extra
    assert isinstance(extra, dict), f"Suite.{field} is classed neither identity nor runtime"
    return extra["class"] == "identity"


def _is_later(field: str) -> bool:
    extra = Suite.model_fields[field].json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("later"))


def make_suite(values: Mapping[str, Any], where: str) -> Suite:
    """A Suite from raw keys; ConfigError lists every bad field at once, with near names."""
    try:
        return Suite.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(_explain(error, where)) from None


def _explain(error: ValidationError, where: str) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "suite"
        if problem["type"] == "extra_forbidden":
            near = difflib.get_close_matches(key, Suite.model_fields, n=1, cutoff=0.5)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            lines.append(f"  {key}: no such setting{guess}")
        elif problem["type"] == "missing":
            lines.append(f"  {key}: missing; {Suite.model_fields[key].description}")
        else:
            given = "" if problem["loc"] == () else f" (given: {problem['input']!r})"
            lines.append(f"  {key}: {problem['msg'].removeprefix('Value error, ')}{given}")
    return f"{where}: {len(lines)} setting{'s' * (len(lines) > 1)} cannot be used\n" + "\n".join(
        lines
    )
