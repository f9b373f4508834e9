"""Who writes the replies of an optimiser step, and the pairs that are trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from opcd_bench.config.suite import Suite
from opcd_bench.distillation import scoring
from opcd_bench.distillation.method import Teacher, Writer
from opcd_bench.distillation.scoring import Pair
from opcd_bench.envs.task import Context, Contexts, Example, Task
from opcd_bench.errors import DataError
from opcd_bench.models.loaded import PromptFormat
from opcd_bench.models.prompts import prompt_ids
from opcd_bench.rollout.engine import Engine, Sampling
from opcd_bench.rollout.episodes import play
from opcd_bench.rollout.trajectory import Skipped, Trajectory
from opcd_bench.seeds import generator, seed_of


@dataclass(frozen=True)
class Slot:
    """One reply to be written: which example, in which optimiser step, which of its generations.

    ``generation`` counts an example's replies within the step.
    """

    step: int
    example: Example
    generation: int


def schedule(task: Task, suite: Suite, seed: int, step: int) -> list[Slot]:
    """The slots of an optimiser step: shuffled epochs over train, the same for every method.

    A later round goes on in the epochs where the one before it ended.
    """
    examples = task.examples("train")
    if not examples:
        raise DataError(f"task {task.name!r} has no train examples")
    step += (suite.round - 1) * suite.max_steps
    first = step * suite.batch_size
    slots: list[Slot] = []
    for position in range(first, first + suite.batch_size):
        epoch, place = divmod(position, len(examples))
        example = examples[_order(task.name, seed, epoch, len(examples))[place]]
        # An epoch that ends within the step can bring an example twice: not with the same noise.
        before = sum(slot.example.id == example.id for slot in slots)
        slots.extend(Slot(step, example, before + g) for g in range(suite.num_generations))
    return slots


@lru_cache(maxsize=8)
def _order(task_name: str, seed: int, epoch: int, n: int) -> tuple[int, ...]:
    order = list(range(n))
    generator("order", task_name, seed, epoch).shuffle(order)
    return tuple(order)


def write_sampling(suite: Suite) -> Sampling:
    """How training replies are drawn."""
    return Sampling(suite.temperature, suite.top_p, suite.top_k, suite.max_completion_length)


def write(
    slots: Sequence[Slot],
    task: Task,
    suite: Suite,
    seed: int,
    loaded: PromptFormat,
    engine: Engine,
    contexts: Contexts | None,
) -> list[Trajectory | Skipped]:
    """Trajectories of the slots, by whichever model ``engine`` runs; told if there are contexts.

    Noise depends on (task, seed, step, example, generation), not on the method nor on the writer.
    """
    names = [(task.name, seed, s.step, s.example.id, s.generation) for s in slots]
    told = None
    if contexts is not None:
        told = [contexts.of(task.name, seed, slot.example.id) for slot in slots]
    return play(
        task,
        [slot.example for slot in slots],
        engine,
        loaded,
        write_sampling(suite),
        seeds=[seed_of("write", *name) for name in names],
        env_seeds=[seed_of("environment", *name) for name in names],
        context=told,
        max_prompt_length=suite.max_prompt_length,
        overlong=suite.overlong,
    )


def told_by_teacher(writer: Writer, slots: Sequence[Slot], task: Task, seed: int) -> list[bool]:
    """Which slots the told teacher writes; drawn per slot, independent of batch composition."""
    if writer.kind != "mixture":
        return [writer.kind != "student"] * len(slots)
    return [
        generator("mixture", task.name, seed, s.step, s.example.id, s.generation).random()
        < writer.teacher_share
        for s in slots
    ]


def row_of(written: Trajectory | Skipped) -> dict[str, Any]:
    """A stored row of a trajectory, or of an example that was skipped."""
    return {"skipped": asdict(written)} if isinstance(written, Skipped) else written.to_json()


def of_row(row: Mapping[str, Any]) -> Trajectory | Skipped:
    """The inverse of ``row_of``."""
    return Skipped(**row["skipped"]) if "skipped" in row else Trajectory.from_json(row)


def read_stored(path: str) -> list[Trajectory]:
    """Trajectories of a ``stored`` writer, in file order; DataError names the line that is bad.

    The files of ``results/<suite>/shared/told-…/`` are such files.
    """
    found = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(
            f"stored trajectories {path}: {error.strerror}; give an existing JSONL file"
        ) from None
    for number, line in enumerate(lines, 1):
        try:
            written = of_row(json.loads(line))
        except (DataError, ValueError) as error:
            raise DataError(f"{path}, line {number}: {error}") from None
        if isinstance(written, Trajectory):
            found.append(written)
    if not found:
        raise DataError(f"stored trajectories {path}: the file is empty")
    return found


def reading(teacher: Teacher, task: Task, example: Example, seed: int) -> Context | None:
    """What the teacher is told before this example's prompt; ``seed`` is the run's."""
    if teacher.reads == "nothing":
        return None
    context = task.contexts().of(task.name, seed, example.id)
    if teacher.reads == "context":
        return context
    text = example.hint if teacher.reads == "hint" else example.reference
    if text is None:
        raise DataError(
            f"task {task.name!r}: example {example.id} has no {teacher.reads}, which the method's "
            "teacher reads; use a task that gives one, or teacher.reads = 'context'"
        )
    text = text if teacher.reads == "hint" else f"The answer is {text}."
    return Context(text, context.placement)


@dataclass(frozen=True)
class PairBatch:
    """The pairs of an optimiser step, and how many replies were left out, by reason."""

    pairs: tuple[Pair, ...]
    overlong: int
    failed: int


def pairs_of(
    trajectories: Sequence[Trajectory | Skipped],
    examples: Sequence[Example],
    teacher: Teacher,
    task: Task,
    suite: Suite,
    student: PromptFormat,
    *,
    seed: int,
    told_by: PromptFormat,
    on_policy: Sequence[bool],
) -> PairBatch:
    """Every turn of every trajectory as its own (prompt, reply) pair, in both readings.

    The reply's ids go into both unchanged; ``seed`` is the run's; ``told_by`` is the teacher, whose
    own chat template renders its prompts. A pair whose told prompt is over the limit (the suite's,
    or what leaves the teacher room for a reply) is refused or skipped and counted, as the suite
    says; no prompt is ever cut.
    """
    room = told_by.max_length - suite.max_completion_length
    limit = room if suite.max_prompt_length is None else min(room, suite.max_prompt_length)
    pairs: list[Pair] = []
    overlong = failed = 0
    for trajectory, example, own in zip(trajectories, examples, on_policy, strict=True):
        if isinstance(trajectory, Skipped):
            overlong += 1
            continue
        if trajectory.outcome == "failed":
            failed += 1
            continue
        context = reading(teacher, task, example, seed)
        for number, turn in enumerate(trajectory.turns):
            told = list(turn.messages) if context is None else context.tell(turn.messages)
            told_ids = prompt_ids(told_by, told)
            if len(told_ids) > limit:
                if suite.overlong == "refuse":
                    raise DataError(
                        f"task {task.name!r}, example {example.id}: the told prompt has "
                        f"{len(told_ids)} tokens, above {limit} (max_prompt_length = "
                        f"{suite.max_prompt_length}; {told_by.name} reads {told_by.max_length}, "
                        f"less max_completion_length = {suite.max_completion_length}). Raise the "
                        "limit, or say overlong = 'skip' to leave such replies out and count them"
                    )
                overlong += 1
                continue
            reply_ids = scoring.end_at_first_eos(turn.reply.ids, student.eos_ids)
            pairs.append(
                Pair(
                    example_id=example.id,
                    turn=number,
                    plain_ids=prompt_ids(student, turn.messages),
                    told_ids=told_ids,
                    reply_ids=reply_ids,
                    written_logprobs=turn.reply.logprobs[: len(reply_ids)] if own else None,
                    written_temperature=turn.reply.logprob_temperature,
                )
            )
    return PairBatch(tuple(pairs), overlong, failed)
