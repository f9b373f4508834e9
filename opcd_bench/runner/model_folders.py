"""A suite's models where they are folders here: which weights, by their hashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from opcd_bench.config.suite import Suite
from opcd_bench.errors import ConfigError
from opcd_bench.models import model_dir
from opcd_bench.models.source import source_of
from opcd_bench.models.stored_weights import weights_digest

HASHES = {"model_weights": "model", "teacher_weights": "teacher_model"}
"""The settings that hold the hash of a model's weights, and the setting that names the model."""


def located(suite: Suite) -> Suite:
    """The suite with the hashes of the weights that are built in or that its ``model_dir`` has.

    So two kinds of weights of one name, on the Hub or in two versions of this package, are never
    taken for each other. Raises
    ModelError for a folder that is not there or is damaged, ConfigError where ``revision`` is asked
    of one.
    """
    hashes = {key: _weights(suite, getattr(suite, name)) for key, name in HASHES.items()}
    changed = {key: value for key, value in hashes.items() if value != getattr(suite, key)}
    if suite.revision is not None and model_dir.mapped(suite.model, suite.model_dir):
        raise ConfigError(
            f"revision = {suite.revision!r} is one of the Hub, but {suite.model} comes from "
            f"model_dir = {suite.model_dir!r}; add --set revision=none, or leave out the model_dir"
        )
    return suite.model_copy(update=changed) if changed else suite


def origin(suite: Suite) -> dict[str, Any] | None:
    """Where the student's weights come from, as JSON; None where no model_dir gave them."""
    folder = model_dir.mapped(suite.model, suite.model_dir)
    if folder is None:
        return None
    return {
        "name": suite.model,
        "weights": suite.model_weights,
        "made_from": model_dir.record(folder),
    }


def _weights(suite: Suite, name: str | None) -> str | None:
    if name is None:
        return None
    if name in model_dir.BUILT_IN:
        return weights_digest(Path(source_of(name)))
    folder = model_dir.mapped(name, suite.model_dir)
    return None if folder is None else weights_digest(folder)
