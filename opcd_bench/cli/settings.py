"""From the words of a command line to a Suite."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from opcd_bench.config import words as plugin_words
from opcd_bench.config.suite import Suite, make_suite
from opcd_bench.envs import context_file
from opcd_bench.errors import ConfigError, UnknownName
from opcd_bench.hashing import digest
from opcd_bench.runner import registry

SHARED_SETTINGS = "quick"
"""The suite whose settings a run without ``--suite`` starts from."""


def make(
    suite: str | None,
    words: Mapping[str, Any],
    assignments: Sequence[str] | None = None,
    *,
    size: str | None = None,
) -> Suite:
    """The suite that a command line asks for, in the size that it asks for.

    ``words``: option -> value, None where it was not given; ``assignments``: ``key=value`` texts.
    Without ``name``, a suite whose shared settings the command line changes gets a name, and so a
    folder, of its own; other methods, tasks, rates or seeds join the suite's folder, where what has
    run is kept. Raises ConfigError or UnknownName, and what `registry.settled` raises.
    """
    given = {key: value for key, value in words.items() if value is not None}
    given = {**given, **assigned(assignments or ())}
    for key in ("methods", "tasks", "retention", "context"):
        if given.get(key) == ["none"]:  # a repeatable option gives a list
            given[key] = "none"
        if isinstance(given.get(key), str):
            given[key] = names(given[key])
    if isinstance(given.get("learning_rate"), str):
        given["learning_rate"] = rates(given["learning_rate"])
    if suite is None and not ({"methods", "tasks"} & set(given)):
        raise ConfigError(
            f"nothing to run; name a suite (--suite {SHARED_SETTINGS}; list: opcd-bench suites) or "
            "methods and tasks (--methods opcd,sft_context --tasks rule_math)"
        )
    if suite is None and size is not None:
        raise ConfigError(f"--size {size} is a suite's; name the suite too (--suite NAME)")
    base = registry.suite(suite or SHARED_SETTINGS, size=size)
    given = _without_foreign_sweep(base, given)
    where = "command line" if suite is None else f"{suite} with the command line's settings"
    values = {**base.model_dump(), **given}
    if "task_settings" not in given:  # those of tasks that the command line leaves out go with them
        own = base.task_settings.items()
        values["task_settings"] = {task: v for task, v in own if task in values["tasks"]}
    if suite is None:
        values["summary"] = given.get("summary", "")
    made = registry.settled(make_suite(values, where))
    if "name" not in given:
        made = _named(base, made, suite is None)
    for name in made.methods:
        registry.require("method", name, made.method_files)
    for name in made.tasks:
        registry.require("task", name, made.task_files)
    return made


def names(text: str) -> list[str]:
    """``a,b[k=4,beta=0.5]`` as a list of two; ``none`` as an empty one.

    Raises ConfigError for brackets without a partner.
    """
    try:
        return [] if text == "none" else plugin_words.split(text)
    except ValueError as error:
        raise ConfigError(f"command line: {error}") from None


def rates(text: str) -> list[float]:
    """``1e-4,1e-3`` as numbers; ConfigError names the one that is none."""
    found = []
    for part in text.split(","):
        try:
            found.append(float(part))
        except ValueError:
            raise ConfigError(
                f"command line: learning_rate: {part.strip()!r} is no number; "
                "write --learning-rate 1e-4 or --learning-rate 1e-4,1e-3"
            ) from None
    return found


def assigned(assignments: Sequence[str]) -> dict[str, Any]:
    """``key=value`` texts as settings; a value is TOML, or else a bare word."""
    found: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise ConfigError(f"command line: --set {text!r}: write --set key=value")
        if key not in Suite.model_fields:
            raise UnknownName("setting", key, Suite.model_fields)
        optional = Suite.model_fields[key].default is None
        found[key] = None if optional and value == "none" else _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _without_foreign_sweep(base: Suite, given: dict[str, Any]) -> dict[str, Any]:
    """Rates on the command line without the suite's headline rate: all run with all the seeds."""
    sweep = {"headline_learning_rate", "sweep_seeds"}
    headline = base.headline_learning_rate
    if "learning_rate" not in given or not isinstance(headline, float) or sweep & set(given):
        return given
    new = given["learning_rate"]
    new = list(new) if isinstance(new, list | tuple) else [new]
    return given if headline in new else {**given, **dict.fromkeys(sweep)}


def _named(base: Suite, made: Suite, custom: bool) -> Suite:
    """Cells are told apart by their hashes, so only shared settings want a folder of their own."""
    shared = _shared(made)
    key = digest(shared, 6)
    if custom:
        return made.model_copy(update={"name": f"custom-{key}"})
    if shared == _shared(base):
        return made
    return made.model_copy(update={"name": f"{base.name}-{key}"})


def _shared(suite: Suite) -> dict[str, Any]:
    """What the cells of a suite share: its settings, and its contexts by content if it has any."""
    found = suite.shared_identity()
    if suite.context:
        files = [context_file.read(context_file.resolve(name)) for name in suite.context]
        told = sorted(digest([file.text, file.placement]) for file in files)
        found |= {"context": told, "context_placement": suite.context_placement}
    return found
