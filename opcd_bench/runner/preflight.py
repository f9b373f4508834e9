"""What is refused of a suite before a model is loaded, by run, dry run and estimate alike."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Method
from opcd_bench.envs.data_files import located
from opcd_bench.envs.task import Task
from opcd_bench.errors import ConfigError, MissingPackage
from opcd_bench.evaluation import retention_names
from opcd_bench.models import config_file
from opcd_bench.models.config_file import ModelFiles
from opcd_bench.runner import compatibility, registry

PACKAGES = {
    ("report_to", "wandb"): ("wandb", "trackers"),
    ("report_to", "tensorboard"): ("tensorboard", "trackers"),
    ("optim", "adamw_8bit"): ("bitsandbytes", "adam8bit"),
}
"""(setting, value) -> the package that it needs, and the extra of ours that brings it."""


def refuse_early(
    suite: Suite,
    methods: Mapping[str, Method],
    tasks: Mapping[str, Task],
    *,
    planned: bool,
) -> None:
    """Raise a UserError for what would fail after hours: no model is loaded, nothing downloaded.

    A method that the suite cannot serve or whose teacher reads what a task does not have, unknown
    retention tasks, missing packages, a model folder that is none, and lengths or contexts that the
    model cannot read. ``planned``: nothing runs now, and data of NLTK's that are missing on this
    machine are a warning.
    """
    for method in methods.values():
        compatibility.refuse_unservable(suite, method)
    _refuse_missing_packages(suite)
    foreign = registry.foreign_retention(suite)
    retention_names.refuse_unusable(
        foreign, located(suite.data_dir), suite.retention_items, planned=planned
    )
    for method in methods.values():
        _refuse_unread(method, tasks.values())
    _refuse_lengths(suite, tasks)


def _refuse_missing_packages(suite: Suite) -> None:
    for (setting, value), (package, extra) in PACKAGES.items():
        if getattr(suite, setting) == value:
            _require(package, f"pip install 'opcd-bench[{extra}]'", f"{setting} = {value!r}")
    if suite.lora_rank is not None:
        _require("peft", "pip install 'opcd-bench[lora]'", "lora_rank")


def _require(package: str, install: str, why: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingPackage(package, install, f"{why} needs it")


def _refuse_unread(method: Method, tasks: Iterable[Task]) -> None:
    """A teacher that reads a hint or a reference that the examples do not have."""
    reads = method.teacher.reads
    if not method.needs_teacher or reads not in ("hint", "reference"):
        return
    for task in tasks:
        lacking = [one for one in task.examples("train") if getattr(one, reads) is None]
        if lacking:
            raise ConfigError(
                f"method {method.name!r}: its teacher reads the {reads} of an example, and "
                f"{len(lacking)} train examples of task {task.name!r} have none (the first: "
                f"{lacking[0].id}). Use a task that gives one, or teacher.reads = 'context'"
            )


def _refuse_lengths(suite: Suite, tasks: Mapping[str, Task]) -> None:
    source = suite.begin_folder or suite.model
    revision = suite.revision if suite.begin_folder is None else None
    student = config_file.on_disk(source, revision=revision, allow_pickle=suite.allow_pickle)
    if suite.teacher_model is not None and suite.teacher_url is None:
        config_file.on_disk(suite.teacher_model, allow_pickle=suite.allow_pickle)
    if student is None or student.window is None:
        return
    for name, task in tasks.items():
        own = suite.for_task(name)
        _refuse_length("max_completion_length", own.max_completion_length, student)
        room = student.window - own.max_completion_length
        if own.max_prompt_length is not None:
            room = min(room, own.max_prompt_length)
        if not suite.chained:
            refuse_long_contexts(task, student, room)
    if suite.retention:
        length = suite.retention_max_completion_length
        _refuse_length("retention_max_completion_length", length, student)


def refuse_window(setting: str, value: int, model: str, revision: str | None = None) -> None:
    """Raise ConfigError for a reply that is longer than the whole window of a model on disk."""
    files = config_file.on_disk(model, revision=revision)
    if files is not None:
        _refuse_length(setting, value, files)


def _refuse_length(setting: str, value: int, model: ModelFiles) -> None:
    if model.window is not None and value >= model.window:
        raise ConfigError(
            f"{setting} = {value} leaves no room for a prompt: the model {model.name!r} reads "
            f"{model.window} tokens in all. Lower it below {model.window}"
        )


def refuse_long_contexts(task: Task, model: ModelFiles, room: int) -> None:
    """Raise ConfigError for a context that by itself is longer than any prompt may be."""
    for context in task.contexts().pool:
        count = model.tokens(context.text)
        if count is not None and count > room:
            raise ConfigError(
                f"task {task.name!r}: its context {context.text[:30]!r}… has {count:,} tokens, and "
                f"a prompt may have {room:,} (the window of {model.name!r} less "
                "max_completion_length, and max_prompt_length). Give a shorter context"
            )
