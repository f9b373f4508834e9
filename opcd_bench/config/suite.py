"""A suite's settings: frozen, strict, defaulted once, each classed as identity or runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationInfo, field_validator, model_validator

from opcd_bench.config import rules
from opcd_bench.config.fields import GRID_FIELDS, Settings
from opcd_bench.config.validated import validated


class Suite(Settings):
    """Methods x tasks x learning rates x seeds, and every setting that they share.

    Raises from the constructor what `rules.refuse_inconsistent` says of settings that contradict
    each other.
    """

    @field_validator("task_settings", mode="after")
    @classmethod
    def _of_its_tasks(
        cls, value: dict[str, dict[str, Any]], info: ValidationInfo
    ) -> dict[str, dict[str, Any]]:
        """With the other fields, so that all that is wrong is said at once."""
        if "tasks" in info.data:
            rules.refuse_foreign_task_settings(value, info.data["tasks"])
        return value

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
            and not (_is(key, "later") and getattr(self, key) == Suite.model_fields[key].default)
        }

    def stored(self) -> dict[str, Any]:
        """What suite.json says of it: no credentials, nor where its folder lies."""
        return self.model_dump(mode="json", exclude={"output_dir"})

    def rounding(self) -> dict[str, Any]:
        """The runtime fields that move last digits, as JSON values."""
        values = self.model_dump(mode="json")
        return {key: value for key, value in values.items() if _is(key, "rounding")}

    def shared_identity(self) -> dict[str, Any]:
        """The identity fields that a single cell shares: without what the grid is made of."""
        return {key: value for key, value in self.identity().items() if key not in GRID_FIELDS}


def is_identity(field: str) -> bool:
    """Whether a field of Suite enters the identity."""
    extra = Suite.model_fields[field].json_schema_extra
    assert isinstance(extra, dict), f"Suite.{field} is classed neither identity nor runtime"
    return extra["class"] == "identity"


def _is(field: str, kind: str) -> bool:
    """Whether a field was declared as ``later`` or ``rounding``."""
    extra = Suite.model_fields[field].json_schema_extra
    return isinstance(extra, dict) and bool(extra.get(kind))


def make_suite(values: Mapping[str, Any], where: str) -> Suite:
    """A Suite from raw keys; ConfigError lists every bad field at once, with near names."""
    return validated(Suite, values, where)
