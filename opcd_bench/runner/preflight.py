"""What is refused of a suite before a model is loaded, by run, dry run and estimate alike."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from opcd_bench.config import rules
from opcd_bench.config.claims import BASE, arm
from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Method
from opcd_bench.envs import readings
from opcd_bench.envs.data_files import located
from opcd_bench.envs.task import Task
from opcd_bench.errors import ConfigError, DataWarning, MissingPackage, ModelError
from opcd_bench.evaluation import retention_names
from opcd_bench.models import config_file
from opcd_bench.models.config_file import ModelFiles
from opcd_bench.models.model_dir import BUILT_IN
from opcd_bench.runner import compatibility, registry, shared_questions, stored_responses
from opcd_bench.store.files import explained, require_room

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
    retention tasks, missing packages, stored responses to other prompts or to too few examples,
    a model folder that is none, and lengths or contexts that the model cannot read, and results
    that cannot be written. ``planned``: nothing runs now; what this machine lacks (data of NLTK's,
    a GPU) and the Hub may have (an entrant) is a DataWarning.
    """
    for method in methods.values():
        compatibility.refuse_unservable(suite, method)
    _refuse_missing_packages(suite)
    foreign = registry.foreign_retention(suite)
    retention_names.refuse_unusable(
        foreign, located(suite.data_dir), suite.retention_items, planned=planned
    )
    if unsure := retention_names.undeclared(foreign):
        from opcd_bench.evaluation import retention

        retention.check_names(unsure)
    for method in methods.values():
        for part in method.parts:
            _refuse_unread(part, tasks.values())
        for task in tasks.values():
            _refuse_untrainable(suite.for_task(task.name), method, task)
    stored_responses.refuse_unfit(suite, methods.values(), list(tasks.values()))
    _refuse_lengths(suite, tasks)
    _refuse_entrants(suite, planned)
    _refuse_place(suite, planned)
    _warn_of_open_claims(suite)


def _refuse_entrants(suite: Suite, planned: bool) -> None:
    """Folders that are no model's; of a Hub id that is not here, a plan says so."""
    for name, source in suite.entrants.items():
        try:
            found = config_file.on_disk(
                source, allow_pickle=suite.allow_pickle, model_dir=suite.model_dir
            )
        except ModelError as error:
            raise ModelError(f"--entrant {name}={source}: {error}") from None
        if found is None and planned:
            warnings.warn(
                f"--entrant {name}={source}: there is no such folder here, so the Hub is asked for "
                "a model of this name before the first cell of a run",
                DataWarning,
                stacklevel=2,
            )


def _refuse_place(suite: Suite, planned: bool) -> None:
    """Results that cannot be written, and a device that this machine does not have."""
    with explained(Path(suite.output_dir)):
        require_room(Path(suite.output_dir) / suite.name)
    if suite.cluster != "local" or suite.device in ("auto", "cpu"):
        return
    from opcd_bench.models.loading import device_of

    try:
        device_of(suite.device)
    except ModelError as error:
        if not planned:
            raise
        warnings.warn(f"on this machine a run is refused: {error}", DataWarning, stacklevel=2)


def _warn_of_open_claims(suite: Suite) -> None:
    """A DataWarning that names the arms of claims that are no cells, where there are any."""
    absent = [
        f"claims.{number}.{which} ({words!r})"
        for number, claim in enumerate(suite.claims)
        for which, words in claim.arms()
        if arm(words)[0] not in (BASE, *suite.methods) or arm(words)[1] not in suite.tasks
    ]
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        warnings.warn(
            f"{', '.join(absent[:3])}{more}: not among the methods and tasks of this run, so "
            "nothing decides these claims; they stay open",
            DataWarning,
            stacklevel=2,
        )


def remarks(suite: Suite, tasks: Mapping[str, Task]) -> Iterator[str]:
    """What a person should know of a suite's numbers before the first step, chained or not."""
    if rounding := rules.rounding_warning(suite):
        yield rounding
    if between := rules.interpolation_warning(suite):
        yield between
    if unknown := form_warning(suite, tasks):
        yield unknown
    unscored = [name for name in tasks if suite.for_task(name).train_items]
    if suite.consolidate == "replay" and unscored:
        yield (
            f"{', '.join(unscored)}: train_items scores nothing with consolidate = 'replay': what "
            "is trained on are states of attempts, and responses to them are not graded"
        )


def form_warning(suite: Suite, tasks: Mapping[str, Task]) -> str | None:
    """What to say where another model meets prompts that only the built-in one can answer."""
    if suite.model in BUILT_IN:
        return None
    every = {**tasks, **shared_questions.own_tasks(suite)}
    unknown = [name for name, task in every.items() if task.for_built_in]
    if not unknown:
        return None
    return (
        f"{', '.join(unknown)}: the prompts do not say in which form to answer, which the built-in "
        f"model knows and {suite.model!r} does not, so a score is also one of form. handbook and "
        "house_style are for other models"
    )


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
    """A teacher, or a rollout policy, that reads what the train examples do not have."""
    readers: list[tuple[str, readings.Reads, str, str]] = [
        ("rollout policy", method.writer.reads, "writer", "writer_reads")
    ]
    if method.needs_teacher:
        readers.append(("teacher", method.teacher.reads, "teacher", "reads"))
    for task in tasks:
        for who, reads, part, parameter in readers:
            if lacking := readings.lacking(reads, task, "train"):
                name = method.name.partition("[")[0]
                raise ConfigError(
                    f"method {method.name!r}: its {who} reads the {reads} of an example, and "
                    f"{len(lacking)} train examples of task {task.name!r} have none (the first: "
                    f"{lacking[0].id}). Use a task that gives one, or {part}.reads = 'context' "
                    f"({name}[{parameter}=context])"
                )


def _refuse_untrainable(suite: Suite, method: Method, task: Task) -> None:
    """Rewards without grades or without a group, and stages without a step of their own."""
    for part in method.parts:
        if part.teacher.by is not None:
            by = registry.method(part.teacher.by, suite.method_files)
            if any(one.teacher.by is not None for one in by.parts):
                raise ConfigError(
                    f"method {method.name!r}: its teacher is adapted by {by.name!r}, whose own "
                    "teacher is adapted; name a method that needs none, such as by='grpo'"
                )
            compatibility.refuse_unservable(suite, by)
            _refuse_untrainable(suite, by, task)
    if any(part.rewarded for part in method.parts):
        if suite.num_generations < 2:
            raise ConfigError(
                f"method {method.name!r}: its reward is relative to the other responses to the "
                f"same example, and num_generations = {suite.num_generations} on task "
                f"{task.name!r}; add --set num_generations=4"
            )
        if not task.train_graded or (suite.chained and suite.consolidate == "replay"):
            raise ConfigError(
                f"method {method.name!r}: its reward is the task's grade, and responses to the "
                f"train examples of {task.name!r} are not graded"
                + (" (consolidate = 'replay')" if task.train_graded else "")
                + "; leave the method out"
            )
    if method.begins is not None:
        first = method.begins.steps(suite.max_steps)
        if not 0 < first < suite.max_steps:
            raise ConfigError(
                f"method {method.name!r}: its first stage takes {method.begins.share:g} of the "
                f"max_steps = {suite.max_steps} on task {task.name!r}, which leaves "
                f"{'it' if first == 0 else 'the other stage'} no step; raise max_steps, or give "
                f"it another share: '{method.name.partition('[')[0]}[begins_share=0.5]'"
            )


def _refuse_lengths(suite: Suite, tasks: Mapping[str, Task]) -> None:
    source = suite.begin_folder or suite.model
    revision = suite.revision if suite.begin_folder is None else None
    model_dir = suite.model_dir if suite.begin_folder is None else None
    student = config_file.on_disk(
        source, revision=revision, allow_pickle=suite.allow_pickle, model_dir=model_dir
    )
    if suite.teacher_model is not None and suite.teacher_url is None:
        config_file.on_disk(
            suite.teacher_model, allow_pickle=suite.allow_pickle, model_dir=suite.model_dir
        )
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
