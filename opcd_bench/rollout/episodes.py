"""Play a task's episodes as a batch: every live episode's next turn is one call of the engine."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from transformers import PreTrainedTokenizerBase

from opcd_bench import preemption
from opcd_bench.envs.task import Context, Episode, Example, Grade, Message, Task, Unreadable
from opcd_bench.errors import CellFailed, DataError, UserError
from opcd_bench.models.loaded import PromptFormat
from opcd_bench.models.prompts import prompt_ids, told_ids
from opcd_bench.rollout import regraded
from opcd_bench.rollout.begun import NOTHING, Begun, written
from opcd_bench.rollout.engine import Engine, Reply, Request, Sampling
from opcd_bench.rollout.trajectory import Outcome, Skipped, Trajectory, TurnRecord
from opcd_bench.seeds import seed_of

__all__ = ["Outcome", "Skipped", "Trajectory", "TurnRecord", "play"]

T = TypeVar("T")


@dataclass
class _Seat:
    """An episode under way."""

    example: Example
    seed: int
    env_seed: int
    context: Context | None = None
    begun: Begun = NOTHING
    episode: Episode | None = None
    plain: tuple[Message, ...] = ()
    turns: list[TurnRecord] = field(default_factory=list)
    result: Trajectory | Skipped | None = None


def play(
    task: Task,
    examples: Sequence[Example],
    engine: Engine,
    reader: PromptFormat | PreTrainedTokenizerBase,
    sampling: Sampling,
    *,
    seeds: Sequence[int],
    env_seeds: Sequence[int],
    context: Context | Sequence[Context] | None = None,
    max_prompt_length: int | None = None,
    overlong: Literal["refuse", "skip"] = "refuse",
    begun: Sequence[Begun] | None = None,
) -> list[Trajectory | Skipped]:
    """One attempt at each example (an example may come several times), in order.

    ``seeds[i]`` is example i's sampling noise (turn t uses ``seed_of(seeds[i], t)``),
    ``env_seeds[i]`` its environment's. With a ``context``, one for all or one an example, the
    writer reads told prompts; the episode and the records stay plain. A prompt, as the writer reads
    it, of more than ``max_prompt_length`` tokens (or than the model has room for, if ``reader`` is
    no bare tokenizer) is never cut. Of the first prompt that the writer reads, ``refuse`` raises
    DataError and ``skip`` gives a Skipped in its place; a later one, which grew by the writer's own
    replies, ends the attempt as truncated, with score 0 and the turns that were played.

    An exception from the task's own code makes that episode ``failed``, with the traceback in
    ``grade.why``, and the others go on; a UserError is passed on. But where a grader raises on a
    reply and not on others (`regraded.unread`), the reply is unparsable: no reply leaves the mean.
    A reply that the length limit cut inside its answer is truncated, whatever was read from it.

    ``begun``: what each attempt has already, of another writer; the engine's goes on from there.
    """
    if not len(examples) == len(seeds) == len(env_seeds):
        raise ValueError(
            f"{len(examples)} examples need as many seeds ({len(seeds)}) and env_seeds "
            f"({len(env_seeds)})"
        )
    limit = _limit(reader, sampling, max_prompt_length)
    told = context if isinstance(context, Sequence) else [context] * len(examples)
    before = [NOTHING] * len(examples) if begun is None else begun
    seats = [_Seat(*of) for of in zip(examples, seeds, env_seeds, told, before, strict=True)]
    for seat in seats:
        _open(task, seat)
    for turn in range(task.max_turns):
        asked: list[tuple[_Seat, tuple[int, ...]]] = []
        for seat in seats:
            if seat.result is not None:
                continue
            if seat.context is None:
                ids = prompt_ids(reader, seat.plain)
            else:
                ids = told_ids(reader, seat.plain, seat.context)
            if limit is not None and len(ids) > limit[0]:
                if turn <= len(seat.begun.replies):
                    seat.result = _overlong(task, seat, turn, len(ids), limit, overlong)
                else:
                    _finish(task, seat, f"{_too_long(turn, len(ids), limit)}; it ends here")
            elif turn < len(seat.begun.replies):
                reply = seat.begun.replies[turn]
                seat.turns.append(TurnRecord(seat.plain, ids, reply))
                _take(task, seat, reply)
            else:
                asked.append((seat, ids))
        prompts = [
            (
                Request(ids, seed_of(seat.seed, turn)),
                seat.begun if turn == len(seat.begun.replies) else NOTHING,
            )
            for seat, ids in asked
        ]
        replies = written(engine, prompts, sampling, reader)
        for (seat, ids), reply in zip(asked, replies, strict=True):
            seat.turns.append(TurnRecord(seat.plain, ids, reply))
            _take(task, seat, reply)
    for seat in seats:
        if seat.result is None:
            _finish(task, seat)
    results = [seat.result for seat in seats if seat.result is not None]
    assert len(results) == len(seats)
    return results


def _limit(
    reader: PromptFormat | PreTrainedTokenizerBase, sampling: Sampling, most: int | None
) -> tuple[int, str] | None:
    """The longest prompt in tokens, and the knob that says so."""
    knob = f"max_prompt_length = {most}"
    if isinstance(reader, PromptFormat):
        room = reader.max_length - sampling.max_completion_length
        if most is None or room < most:
            return room, (
                f"model {reader.name!r} reads {reader.max_length} tokens, minus "
                f"max_completion_length = {sampling.max_completion_length}"
            )
    return None if most is None else (most, knob)


def _overlong(
    task: Task,
    seat: _Seat,
    turn: int,
    length: int,
    limit: tuple[int, str],
    overlong: Literal["refuse", "skip"],
) -> Skipped:
    if overlong == "skip":
        return Skipped(seat.example.id, turn, length, limit[0])
    raise DataError(
        f"task {task.name!r}, example {seat.example.id}: {_too_long(turn, length, limit)}. Prompts "
        "are never cut: raise the limit, or set overlong = 'skip' to leave such examples out and "
        "count them"
    )


def _too_long(turn: int, length: int, limit: tuple[int, str]) -> str:
    return f"the prompt of turn {turn + 1} has {length} tokens, more than {limit[0]} ({limit[1]})"


def _open(task: Task, seat: _Seat) -> None:
    def opened() -> Episode:
        episode = task.open(seat.example, seat.env_seed)
        seat.plain = tuple(dict(message) for message in episode.messages)
        return episode

    seat.episode = _guarded(task, seat, opened, reads=False)


def _take(task: Task, seat: _Seat, reply: Reply) -> None:
    """Hand the reply to the episode; finish it if it is over."""
    episode = seat.episode
    assert episode is not None

    def over() -> bool:
        done = episode.step(reply.text).done
        if not done:
            seat.plain = tuple(dict(message) for message in episode.messages)
        return done

    if _guarded(task, seat, over, reads=task.max_turns == 1):
        _finish(task, seat)


def _finish(task: Task, seat: _Seat, outgrown: str = "") -> None:
    """Grade the attempt; ``outgrown`` says why it ends before it is over, which loses it."""
    episode = seat.episode
    assert episode is not None

    def graded() -> tuple[Grade, str]:
        grade = episode.grade()
        if not isinstance(grade, Grade):
            raise TypeError(f"grade() returned {grade!r}, not a Grade")
        return grade, episode.feedback()

    finished = _guarded(task, seat, graded, reads=True)
    if finished is None:
        return
    grade, feedback = finished
    if outgrown:
        grade = Grade(0.0, grade.answer, outgrown, dict.fromkeys(grade.also, 0.0))
        seat.result = Trajectory(seat.example.id, tuple(seat.turns), grade, "truncated", feedback)
        return
    if grade.score == 1.0 and seat.turns and seat.turns[-1].reply.finish == "length":
        replies = [turn.reply.text for turn in seat.turns]
        grade = regraded.cut_off(task, seat.example, seat.env_seed, replies, grade) or grade
    _end(seat, grade, feedback)


def _end(seat: _Seat, grade: Grade, feedback: str = "") -> None:
    """Set the result of an attempt that was graded."""
    outcome: Outcome = "wrong"
    if grade.score == 1.0:
        outcome = "correct"
    elif any(turn.reply.finish == "length" for turn in seat.turns):
        outcome = "truncated"
    elif grade.score is None:
        outcome = "unparsable"
    seat.result = Trajectory(seat.example.id, tuple(seat.turns), grade, outcome, feedback)


def _guarded(task: Task, seat: _Seat, call: Callable[[], T], *, reads: bool) -> T | None:
    """What the task's own code returns; if it raises, None, and the seat has its result.

    It is ``failed``, unless the code ``reads`` replies and this reply is to blame.
    """
    try:
        return call()
    except (UserError, CellFailed):
        raise
    except Exception as error:
        if preemption.leaving():  # it came into the task's code, and is not its fault
            raise
        traced = traceback.format_exc(limit=-4)
        if seat.turns and (reads or isinstance(error, Unreadable)):
            before = [turn.reply.text for turn in seat.turns[:-1]]
            grade = regraded.unread(task, seat.example, seat.env_seed, before, error)
            if grade is not None:
                _end(seat, grade)
                return None
        grade = Grade(None, None, traced)
        seat.result = Trajectory(seat.example.id, tuple(seat.turns), grade, "failed", "")
        return None
