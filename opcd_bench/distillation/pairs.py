"""Pairs: one reply with both of its prompts, what the student reads before it and the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Teacher
from opcd_bench.envs import readings
from opcd_bench.envs.task import Example, Task
from opcd_bench.errors import DataError
from opcd_bench.models import prompts
from opcd_bench.models.loaded import PromptFormat
from opcd_bench.rollout.trajectory import Skipped, Trajectory


@dataclass(frozen=True)
class Pair:
    """One reply with both of its prompts: what the student reads before it, and the teacher.

    ``reply_ids`` are the written tokens up to and including the first end of sequence; they are
    appended unchanged to ``plain_ids`` and to ``told_ids``. Prompts carry no loss.
    ``written_logprobs`` are the writer's own, at ``written_temperature`` (None: the suite's), or
    None where the plain student did not write. ``advantage``: what the reply was worth beside the
    others of its example, for losses of rewards.
    """

    example_id: str
    turn: int
    plain_ids: tuple[int, ...]
    told_ids: tuple[int, ...]
    reply_ids: tuple[int, ...]
    written_logprobs: tuple[float, ...] | None = None
    written_temperature: float | None = None
    advantage: float | None = None

    def __post_init__(self) -> None:
        if not self.reply_ids:
            raise DataError(f"example {self.example_id}: an empty response has nothing to score")
        for which, ids in (("without", self.plain_ids), ("with", self.told_ids)):
            if not ids:
                raise DataError(
                    f"example {self.example_id}: its prompt {which} context has no token"
                )


def micro_batches(pairs: Sequence[Pair], suite: Suite) -> list[slice]:
    """Runs of pairs, in order, that one forward and backward pass takes; together all of them."""
    if suite.micro_batch_tokens is None:
        size = suite.micro_batch_size
        return [slice(begin, begin + size) for begin in range(0, len(pairs), size)]
    found, begin, tokens = [], 0, 0
    for end, pair in enumerate(pairs):
        own = len(pair.plain_ids) + len(pair.reply_ids)
        if end > begin and tokens + own > suite.micro_batch_tokens:
            found.append(slice(begin, end))
            begin, tokens = end, 0
        tokens += own
    return [*found, slice(begin, len(pairs))]


def end_at_first_eos(reply_ids: Sequence[int], eos_ids: Sequence[int]) -> tuple[int, ...]:
    """The reply up to and including its first end-of-sequence token, if it has one."""
    ends = [i for i, token in enumerate(reply_ids) if token in set(eos_ids)]
    return tuple(reply_ids[: ends[0] + 1] if ends else reply_ids)


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
    advantages: Sequence[float] | None = None,
) -> PairBatch:
    """Every turn of every trajectory as its own (prompt, reply) pair, in both readings.

    The reply's ids go into both unchanged; ``seed`` is the run's; ``told_by`` is the teacher, whose
    own chat template renders its prompts. A pair one of whose prompts is over the limit (the
    suite's, or what leaves its reader room for a reply) is refused or skipped and counted, as the
    suite says; no prompt is ever cut. ``advantages``: one a trajectory, each of whose turns has it.
    """
    pairs: list[Pair] = []
    overlong = failed = 0
    worth: Sequence[float | None] = advantages or [None] * len(trajectories)
    for trajectory, example, own, advantage in zip(
        trajectories, examples, on_policy, worth, strict=True
    ):
        if isinstance(trajectory, Skipped):
            overlong += 1
            continue
        if trajectory.outcome == "failed":
            failed += 1
            continue
        context = readings.told(teacher.reads, task, example, seed)
        for number, turn in enumerate(trajectory.turns):
            if context is None:
                told_ids = prompts.prompt_ids(told_by, turn.messages)
            else:
                told_ids = prompts.told_ids(told_by, turn.messages, context)
            plain_ids = prompts.prompt_ids(student, turn.messages)
            too_long = _too_long("with", told_ids, told_by, suite) or _too_long(
                "without", plain_ids, student, suite
            )
            if too_long:
                if suite.overlong == "refuse":
                    raise DataError(f"task {task.name!r}, example {example.id}: {too_long}")
                overlong += 1
                continue
            reply_ids = end_at_first_eos(turn.reply.ids, student.eos_ids)
            pairs.append(
                Pair(
                    example_id=example.id,
                    turn=number,
                    plain_ids=plain_ids,
                    told_ids=told_ids,
                    reply_ids=reply_ids,
                    written_logprobs=turn.reply.logprobs[: len(reply_ids)] if own else None,
                    written_temperature=turn.reply.logprob_temperature,
                    advantage=advantage,
                )
            )
    return PairBatch(tuple(pairs), overlong, failed)


def _too_long(which: str, ids: Sequence[int], reader: PromptFormat, suite: Suite) -> str:
    """What to say of a prompt that is over its reader's limit; empty for one that is not."""
    room = reader.max_length - suite.max_completion_length
    limit = room if suite.max_prompt_length is None else min(room, suite.max_prompt_length)
    if len(ids) <= limit:
        return ""
    return (
        f"the prompt {which} context has {len(ids)} tokens, above {limit} (max_prompt_length = "
        f"{suite.max_prompt_length}; {reader.name} reads {reader.max_length}, less "
        f"max_completion_length = {suite.max_completion_length}). Raise the limit, or say "
        "overlong = 'skip' to leave such responses out and count them"
    )
