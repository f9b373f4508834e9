"""The suite that somebody asks for: a suite with settings of their own put over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opcd_bench.config.suite import Suite, make_suite
from opcd_bench.envs import context_file
from opcd_bench.hashing import digest
from opcd_bench.models import model_dir
from opcd_bench.runner import model_folders, registry

SHARED_SETTINGS = "quick"
"""The suite whose settings a run that names none starts from."""


def suite(base: Suite, given: Mapping[str, Any], where: str, *, custom: bool = False) -> Suite:
    """``base`` with the settings ``given``; ``where`` is how an error calls their place.

    Without a ``name`` among them, a suite whose shared settings they change gets a name, and so a
    folder, of its own; other methods, tasks, rates or seeds join the folder of ``base``, where what
    has run is kept. ``custom``: no suite was named, so the folder is never that of ``base``.
    Raises ConfigError for settings that cannot be used, UnknownName for a method or task, and what
    `registry.settled` and `model_folders.located` raise.
    """
    given = _without_foreign_sweep(base, dict(given))
    if _alone(given):
        given.setdefault("jobs", 1)  # a suite's own number is of cells that share the machine
    values = {**base.model_dump(), **given}
    if "model_dir" not in given:
        values["model_dir"] = model_dir.given(base.model_dir)
    if "task_settings" not in given:  # those of tasks that are not asked for go with them
        tasks = values["tasks"]
        named = [task.strip() for task in tasks.split(",")] if isinstance(tasks, str) else tasks
        if isinstance(named, list | tuple):
            own = base.task_settings.items()
            values["task_settings"] = {task: v for task, v in own if task in named}
    if custom:
        values["summary"] = given.get("summary", "")
    made = model_folders.located(registry.settled(make_suite(values, where), where))
    if "name" not in given:
        made = _named(base, made, custom)
    for name in made.methods:
        registry.require("method", name, made.method_files)
    for name in made.tasks:
        registry.require("task", name, made.task_files)
    return made


def _alone(given: Mapping[str, Any]) -> bool:
    """Whether settings ask for a cell at a time: of several processes, or with a vLLM of ours."""
    teaching = given.get("teacher_engine") == "vllm" and given.get("teacher_url") is None
    return given.get("processes", 1) != 1 or given.get("engine") == "vllm" or teaching


def _without_foreign_sweep(base: Suite, given: dict[str, Any]) -> dict[str, Any]:
    """Rates without the headline rate of ``base``: all run with all the seeds."""
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
    """What the cells of a suite share: its settings, and its contexts by content if it has any.

    Not the weights of a model_dir: the same suite on another machine has the same folder's name,
    and what cannot stand in one table is refused there.
    """
    found = {
        key: value
        for key, value in suite.shared_identity().items()
        if key not in model_folders.HASHES
    }
    if suite.context:
        files = [context_file.read(context_file.resolve(name)) for name in suite.context]
        told = sorted(digest([file.text, file.placement]) for file in files)
        found |= {"context": told, "context_placement": suite.context_placement}
    return found
