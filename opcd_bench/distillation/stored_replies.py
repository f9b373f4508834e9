"""Replies that lie in files: as rows, and as a stored writer hands them out, checked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple, get_args

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import stored_files
from opcd_bench.distillation.pairs import end_at_first_eos
from opcd_bench.distillation.sampling import Slot, schedule
from opcd_bench.envs.task import Example, Message, Task
from opcd_bench.envs.thinking import opened_thought
from opcd_bench.errors import DataError, UserError
from opcd_bench.hashing import bytes_digest
from opcd_bench.models.decoded import reply_text
from opcd_bench.models.loaded import PromptFormat
from opcd_bench.rollout.trajectory import HAS, Outcome, Skipped, Trajectory
from opcd_bench.store.suite_dir import TOLD

OPENED = 8
"""How often an episode is opened to see whether its first prompt is drawn anew each time."""

SHOWN = 40
"""Characters of a text that a message shows."""


class Place(NamedTuple):
    """Where a row stands: its file, and its line from 1."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


def row_of(written: Trajectory | Skipped) -> dict[str, Any]:
    """A stored row of a trajectory, or of an example that was skipped."""
    return {"skipped": asdict(written)} if isinstance(written, Skipped) else written.to_json()


def of_row(row: Mapping[str, Any]) -> Trajectory | Skipped:
    """The inverse of ``row_of``."""
    return Skipped(**row["skipped"]) if "skipped" in row else Trajectory.from_json(row)


def read_stored(path: str) -> Iterator[tuple[Place, Trajectory | Skipped]]:
    """Where each row stands and what it holds, in the order of files and lines.

    DataError names the line that is bad, or says that there is no row. A row ends with its newline:
    the other separators of lines that Unicode has stand inside of texts.
    """
    empty = True
    for file in _files(path):
        lines = _bytes_of(file).removesuffix(b"\n").split(b"\n")
        for number, line in enumerate(lines if lines != [b""] else [], 1):
            place, empty = Place(file, number), False
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{place}: no row of JSON ({error}); a row is one stored trajectory, and {HAS}"
                ) from None
            try:
                written = of_row(row)
            except (DataError, TypeError, ValueError, RecursionError) as error:
                raise DataError(f"{place}: {error}") from None
            yield place, written
    if empty:
        files = "its files are" if Path(path).is_dir() else "the file is"
        raise DataError(f"stored responses {path}: {files} empty")


def _bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"stored responses {file}: {error.strerror}") from None


def _files(path: str) -> list[Path]:
    if files := stored_files(path):
        return files
    if Path(path).is_dir():
        raise DataError(
            f"stored responses {path}: no .jsonl file lies below this folder, but for scores of a "
            "suite; give a file of rows, or a folder of such files, as shared/told-…/ of a run is"
        )
    raise DataError(
        f"stored responses {path}: No such file or directory; give a JSONL file, or a folder of "
        "such files"
    )


class StoredReplies:
    """The replies to a task's train examples that files hold, by example in the order of the files.

    Rows of other examples are left out, those that a run stored for the suite's other tasks, and
    skipped ones where the suite refuses long prompts. ``suite`` is the task's. Raises DataError for
    a row that is no answer to its example's prompt, and for an example with rows in two folders.
    """

    def __init__(self, path: str, task: Task, suite: Suite) -> None:
        self.path, self.task, self.suite = path, task, suite
        self._read_by: tuple[Any, ...] | None = None
        self._held: dict[str, list[tuple[Place, Trajectory | Skipped]]] = {}
        others = tuple(f"{TOLD}{name}--" for name in suite.tasks if name != task.name)
        examples = {example.id: example for example in task.examples("train")}
        openings: dict[str, list[Message] | None] = {}
        for place, written in read_stored(path):
            example = examples.get(written.example_id)
            if example is None or (isinstance(written, Skipped) and suite.overlong == "refuse"):
                continue
            if place.file.absolute().parent.name.startswith(others):
                continue
            if isinstance(written, Trajectory) and written.outcome != "failed":
                _refuse_unusable(place, written, task)
                if example.id not in openings:
                    openings[example.id] = _opening(task, example, 0)
                _refuse_other_prompt(place, written, task, example, openings[example.id])
            self._held.setdefault(example.id, []).append((place, written))
        self._refuse_mixed()

    def _refuse_mixed(self) -> None:
        """Raise DataError where an example has responses of several teachers or seeds, or may."""
        for example, rows in self._held.items():
            folders = list(dict.fromkeys(place.file.parent for place, _ in rows))
            if len(folders) > 1:
                raise DataError(
                    f"stored responses {self.path}: example {example} of task {self.task.name!r} "
                    f"has responses in {len(folders)} folders, which another teacher or seed may "
                    f"have sampled ({folders[0]}, {folders[1]}); give one of them, "
                    f"stored({str(folders[0])!r}), or one file with the rows of all that are to be "
                    "trained on"
                )

    def refuse_other_tokens(self, student: PromptFormat) -> None:
        """Raise DataError where ids are not the student's tokens, or say other than the text.

        Of a model that reads as the last one did they are not looked at again.
        """
        reads = student.tokenizer, student.vocab_size, student.eos_ids
        if self._read_by is not None and self._read_by[0] is reads[0]:
            if self._read_by[1:] == reads[1:]:
                return
        for place, trajectory in self._played():
            for number, turn in enumerate(trajectory.turns, 1):
                where = str(place) if len(trajectory.turns) == 1 else f"{place}, turn {number}"
                outside = [i for i in turn.reply.ids if not 0 <= i < student.vocab_size]
                if outside:
                    raise DataError(
                        f"{where}: token {outside[0]} is not in the vocabulary of "
                        f"{student.name!r} ({student.vocab_size} tokens): the response was sampled "
                        "with another tokenizer; give responses of a model with this one's"
                    )
                said = reply_text(student.tokenizer, turn.reply.ids)
                opened = turn.reply.text.removesuffix(said)
                if opened + said != turn.reply.text or opened_thought(opened) != opened:
                    raise DataError(
                        f"{where}: {_differs(turn.reply.text, said, 'its text', 'its ids')} for "
                        f"the tokenizer of {student.name!r}: the response was sampled with "
                        "another one, or its text was edited; give responses as they were sampled"
                    )
                length = len(end_at_first_eos(turn.reply.ids, student.eos_ids))
                if length > self.suite.max_completion_length:
                    raise DataError(
                        f"{where}: the response has {length} tokens, more than "
                        f"max_completion_length = {self.suite.max_completion_length} on task "
                        f"{self.task.name!r}; add --set max_completion_length={length}, or leave "
                        "it out of the file"
                    )

        self._read_by = reads

    def refuse_lacking(self, seed: int, steps: range) -> None:
        """Raise DataError where optimiser steps need examples that have no reply, or too few."""
        needed = self._needed(seed, steps)
        lacking = [one for one in needed if one not in self._held]
        name, asked = self.task.name, self.suite.num_generations
        if lacking:
            raise DataError(
                f"stored responses {self.path}: {len(lacking)} of the {len(needed)} train examples "
                f"of task {name!r} that seed {seed} trains on have no response there (the first: "
                f"{lacking[0]}); give files that have one to each, as the whole folder "
                "shared/told-…/ of a run with the same steps, batch_size and seed has"
            )
        few = [one for one in needed if len(self._held[one]) < asked]
        if few:
            least = min(len(self._held[one]) for one in few)
            raise DataError(
                f"stored responses {self.path}: num_generations = {asked} on task {name!r} asks "
                f"for {asked} responses to an example at a time, and {len(few)} examples have "
                f"fewer (the first, {few[0]}, has {len(self._held[few[0]])}); add --set "
                f"num_generations={least}, or give files with more"
            )

    def of_slots(self, slots: Sequence[Slot]) -> list[Trajectory | Skipped]:
        """The n-th reply to an example for its n-th slot in the run; after the last, the first."""
        held = [(slot, self._held[slot.example.id]) for slot in slots]
        return [rows[slot.number % len(rows)][1] for slot, rows in held]

    def _played(self) -> Iterator[tuple[Place, Trajectory]]:
        """What is trained on, and where it stands."""
        for rows in self._held.values():
            for place, written in rows:
                if isinstance(written, Trajectory) and written.outcome != "failed":
                    yield place, written

    def _needed(self, seed: int, steps: range) -> list[str]:
        """The examples of optimiser steps, in the order in which they come."""
        found: dict[str, None] = {}
        every = len({example.id for example in self.task.examples("train")})
        for step in steps:
            slots = schedule(self.task, self.suite, seed, step)
            found |= dict.fromkeys(slot.example.id for slot in slots)
            if len(found) == every:
                break
        return list(found)


class _Held(NamedTuple):
    """Replies that were read, and what their files held."""

    replies: StoredReplies
    files: dict[Path, str]


_held: list[_Held] = []


def held(path: str, task: Task, suite: Suite) -> StoredReplies:
    """The `StoredReplies` of these: read and checked once, and then held by the process.

    One at a time, for they can be large; read again where a file has changed.
    """
    files = {file: bytes_digest(_bytes_of(file)) for file in _files(path)}
    for last in _held:
        same = last.replies.task is task and last.replies.suite == suite
        if same and (last.replies.path, last.files) == (path, files):
            return last.replies
    _held.clear()  # before the others are read
    _held.append(_Held(StoredReplies(path, task, suite), files))
    return _held[0].replies


def _refuse_unusable(place: Place, trajectory: Trajectory, task: Task) -> None:
    """Values that no attempt at the task has, which would end a run in the midst of it."""
    wrong, turns = "", trajectory.turns
    if trajectory.outcome not in get_args(Outcome):
        wrong = f"outcome is {trajectory.outcome!r}; use one of {', '.join(get_args(Outcome))}"
    elif not 0 < len(turns) <= task.max_turns:
        wrong = f"{len(turns)} turns; an attempt at task {task.name!r} has 1 to {task.max_turns}"
    for turn in turns:
        if not turn.reply.ids or not all(type(i) is int for i in turn.reply.ids):
            wrong = "ids are not whole numbers, one at least"
        elif not isinstance(turn.reply.text, str):
            wrong = f"the text of a response is {turn.reply.text!r}"
    if wrong:
        raise DataError(f"{place}: {wrong}")


def _refuse_other_prompt(
    place: Place,
    trajectory: Trajectory,
    task: Task,
    example: Example,
    opening: list[Message] | None,
) -> None:
    """A first prompt that is not the one that the example's episode opens with."""
    answered = [dict(message) for message in trajectory.turns[0].messages]
    if opening is None or answered == opening:
        return
    if any(_opening(task, example, seed) != opening for seed in range(1, OPENED)):
        return  # drawn anew for each attempt: there is no one prompt to compare with
    raise DataError(
        f"{place}: the response is to another prompt than example {example.id} of task "
        f"{task.name!r} has: {_of_prompts(answered, opening)}. Give responses to this version of "
        "the task, with the same options, sampled or stored without its context"
    )


def _opening(task: Task, example: Example, seed: int) -> list[Message] | None:
    """The first prompt of an episode; None where the task's own code fails."""
    try:
        return [dict(message) for message in task.open(example, seed).messages]
    except UserError:
        raise
    except Exception:  # an attempt at it would be recorded as failed
        return None


def _of_prompts(stored: Sequence[Message], opening: Sequence[Message]) -> str:
    """Where two prompts begin to differ."""
    for number, (one, other) in enumerate(zip_longest(stored, opening), 1):
        if one is None or other is None:
            return f"it has {len(stored)} messages, and the task's has {len(opening)}"
        if one.get("role") != other.get("role"):
            return f"message {number} is of {one.get('role')!r}, not of {other.get('role')!r}"
        if one != other:
            texts = str(one.get("content")), str(other.get("content"))
            return f"message {number}: {_differs(*texts, 'the file', 'the task')}"
    raise AssertionError("equal prompts")


def _differs(one: str, other: str, first: str, second: str) -> str:
    """What two texts say where they part."""
    pairs = enumerate(zip(one, other, strict=False))
    at = next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
    begin = max(0, at - SHOWN // 2)
    shown = [text[begin : at + SHOWN] for text in (one, other)]
    return f"{first} says {shown[0]!r} where {second} says {shown[1]!r}"
