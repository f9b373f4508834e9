"""What a suite will come to before it runs: tokens, memory, and time where it can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Method
from opcd_bench.envs import data_sets
from opcd_bench.envs.overlap import between_splits
from opcd_bench.envs.task import Task
from opcd_bench.errors import ConfigError, DataError, MissingPackage, ModelError
from opcd_bench.models import loading, prompts
from opcd_bench.models.loaded import PromptFormat
from opcd_bench.progress import Reporter
from opcd_bench.runner.estimate import memory, processes, workload
from opcd_bench.runner.estimate import step_time as paces_of
from opcd_bench.runner.estimate.memory import Lengths, MemoryPart, Shape
from opcd_bench.runner.estimate.workload import Seconds, Tokens, Work
from opcd_bench.runner.rounds import any_suite
from opcd_bench.runner.rounds.chain import experience_of

SAMPLED = 64
"""Train examples whose prompts are rendered to learn how long prompts are."""


@dataclass(frozen=True)
class TaskEstimate:
    """One task's share; ``lengths`` is None and ``parts`` () where the model is not at hand.

    ``parts`` are the memory of each of the suite's processes. ``gpus``: the fewest GPUs of 80 GB
    that a cell fits, a process on each; None where that is not known, or there are not enough.
    """

    work: Work
    lengths: Lengths | None
    parts: tuple[MemoryPart, ...]
    gpus: int | None
    seconds: Seconds | None
    peak_seen: int | None


@dataclass(frozen=True)
class Estimate:
    """The whole suite. ``source`` says where expectations come from; ``notes`` what is left out."""

    tasks: tuple[TaskEstimate, ...]
    model: Shape | None
    larger: Shape | None
    at_most: Tokens
    expected: Tokens | None
    seconds: float | None
    source: str
    notes: tuple[str, ...]


def estimate(suite: Suite, *, measure: int, console: Reporter) -> Estimate:
    """Tokens, memory and time of a suite.

    ``measure`` > 0: that many real optimiser steps of every task and method are taken now, in a
    folder that is then removed, after one step that is not counted. Otherwise expectations come
    from the runs of this suite that are stored, if there are any. No weight is loaded unless steps
    are taken. Raises UserError subclasses as a run does.
    """
    methods, tasks = any_suite.checked(suite)
    notes = [*_notes(suite), *_overlaps(tasks)]
    shapes: list[Shape | None] = []
    for name in (suite.model, suite.teacher_model):
        try:
            shapes.append(None if name is None else _shape(suite, name))
        except ModelError as error:
            shapes.append(None)
            notes.append(f"memory is not estimated: {error}")
    student, larger = shapes
    if measure and suite.processes > 1:
        raise ConfigError(
            f"--measure takes steps in this process, and processes = {suite.processes}: leave "
            "--measure out (the hours then come from stored runs), or add --processes 1"
        )
    if measure:
        paces = paces_of.rehearsed(suite, methods, tasks, measure, console)
        source = f"{measure} step{'s' * (measure > 1)} of each task and method, measured now"
    else:
        paces = paces_of.stored(suite, tasks)
        source = f"the runs stored in {Path(suite.output_dir) / suite.name}"
    reader = None
    if student is not None and suite.max_prompt_length is None:
        reader = _reader(suite, student)
    found = []
    for name, task in tasks.items():
        lengths, gpus, parts = None, None, tuple[MemoryPart, ...]()
        if student is not None:
            lengths = _lengths(suite, task, reader)
            parts, gpus = _parts(suite, task, methods, student, larger, lengths)
        pace = paces.get(name, {})
        found.append(
            TaskEstimate(
                work=workload.work(suite, task, methods, pace),
                lengths=lengths,
                parts=parts,
                gpus=gpus,
                seconds=workload.seconds(suite, task, methods, pace),
                peak_seen=max((p.peak_bytes for p in pace.values()), default=None),
            )
        )
    # One measurement of the base for all cells; every round of a chain has counted its own.
    base = Tokens(evaluated=0 if suite.chained else workload.retention_tokens(suite))
    expected = [one.work.expected for one in found]
    seconds = [one.seconds for one in found]
    return Estimate(
        tasks=tuple(found),
        model=student,
        larger=larger,
        at_most=sum((one.work.at_most for one in found), base),
        expected=None if None in expected else sum((e for e in expected if e), Tokens()),
        seconds=None if None in seconds else sum(s.total for s in seconds if s),
        source=source if paces else "",
        notes=tuple(notes),
    )


def _notes(suite: Suite) -> list[str]:
    """What the numbers leave out."""
    notes = []
    if suite.retention and suite.retention_items is None:
        notes.append(
            f"retention on all items of {', '.join(suite.retention)} is not counted; with a "
            "limit (retention_items) it is"
        )
    if "vllm" in (suite.engine, suite.teacher_engine):
        notes.append(
            "the memory of vLLM is not counted: it takes the share of the GPU that it is given"
        )
    if suite.chained:
        notes.append(
            "rounds are counted as cells. Student rollouts include what a round generates to "
            "make its context; evaluated tokens include the choice of a context"
        )
    return notes


def _overlaps(tasks: Mapping[str, Task]) -> list[str]:
    """Which tasks' train splits ask what test does, as far as data are at hand."""
    notes = []
    for name, task in tasks.items():
        try:
            with data_sets.local_only():
                found = between_splits(task)
        except (DataError, MissingPackage):
            continue
        if found.near:
            notes.append(f"{name}: {found}")
    return notes


def _shape(suite: Suite, name: str) -> Shape:
    own = name == suite.model
    config = loading.config_of(
        name,
        revision=suite.revision if own else None,
        trust_remote_code=suite.trust_remote_code,
        model_dir=suite.model_dir,
    )
    rank = suite.lora_rank if own else None
    return memory.shape_of(
        name,
        config,
        rank=rank,
        targets=suite.lora_target_modules,
        trust_remote_code=suite.trust_remote_code,
    )


def _reader(suite: Suite, student: Shape) -> PromptFormat:
    """How the student reads prompts, without its weights."""
    tokenizer = loading.tokenizer_of(
        suite.model,
        revision=suite.revision,
        trust_remote_code=suite.trust_remote_code,
        model_dir=suite.model_dir,
    )
    return PromptFormat(
        name=suite.model,
        tokenizer=tokenizer,
        eos_ids=(),  # nothing is written here
        vocab_size=max(tokenizer.get_vocab().values()) + 1,
        max_length=student.window,
        thinking=suite.enable_thinking,
    )


def _lengths(suite: Suite, task: Task, reader: PromptFormat | None) -> Lengths:
    """The longest prompts of the first train examples; without a reader the suite's own limit."""
    if reader is None:
        assert suite.max_prompt_length is not None
        return Lengths(suite.max_prompt_length, suite.max_prompt_length, "max_prompt_length")
    try:
        examples = task.examples("train")[:SAMPLED]
    except DataError:
        room = reader.max_length - suite.for_task(task.name).max_completion_length
        return Lengths(room, room, "the model's context window, because the data are not available")
    plain = told = 0
    for example in examples:
        messages = list(task.open(example, 0).messages)
        context = task.contexts().of(task.name, 0, example.id)
        plain = max(plain, len(prompts.prompt_ids(reader, messages)))
        told = max(told, len(prompts.told_ids(reader, messages, context)))
    if suite.history == "full" and task.max_turns > 1:
        more = (task.max_turns - 1) * (plain + suite.for_task(task.name).max_completion_length)
        plain, told = plain + more, told + more
    source = f"the first {len(examples)} train examples"
    if suite.chained:  # a round tells what it makes, in place of the task's own context
        most = experience_of(suite).max_context_tokens
        told, source = max(told, plain + most), f"{source}, and max_context_tokens"
    return Lengths(plain, told, source)


def _parts(
    suite: Suite,
    task: Task,
    methods: Mapping[str, Method],
    student: Shape,
    larger: Shape | None,
    lengths: Lengths,
) -> tuple[tuple[MemoryPart, ...], int | None]:
    """The memory of each process, and how many GPUs of 80 GB would do."""
    import torch

    on_gpu = "cuda" in suite.device
    if suite.device == "auto":  # who plans several processes plans for GPUs that are elsewhere
        on_gpu = torch.cuda.is_available() or suite.processes > 1
    own = suite.for_task(task.name)
    found = memory.parts(own, methods.values(), student, larger, lengths, on_gpu=on_gpu)
    gpus = processes.fewest(found, own, student, larger) if on_gpu else None
    return tuple(processes.of_each(found, own, student, larger, own.processes)), gpus
