"""The replies that a method's writer gives to an optimiser step: sampled, stored or mixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Method, Teacher, Writer
from opcd_bench.distillation.sampling import Slot, reply_sampling, sample_replies, schedule
from opcd_bench.distillation.stored_replies import StoredReplies, held, of_row, row_of
from opcd_bench.envs import readings
from opcd_bench.envs.readings import Reads
from opcd_bench.envs.task import Task, describe_task
from opcd_bench.hashing import digest
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.rollout.engine import Engine
from opcd_bench.rollout.trajectory import Skipped, Trajectory
from opcd_bench.seeds import generator
from opcd_bench.store.suite_dir import SharedDir, SuiteDir


def told_by_teacher(writer: Writer, slots: Sequence[Slot], task: Task, seed: int) -> list[bool]:
    """Which slots the told teacher writes; drawn per slot, independent of batch composition."""
    if writer.kind != "mixture":
        return [writer.kind != "student"] * len(slots)
    return [
        generator("mixture", task.name, seed, s.step, s.example.id, s.generation).random()
        < writer.teacher_share
        for s in slots
    ]


@dataclass(frozen=True)
class StepReplies:
    """The replies of one optimiser step, in the order of its slots.

    ``by_teacher`` says which of them the told teacher wrote, or a file holds: those are stored
    once, and their tokens are no cost of the run.
    """

    slots: tuple[Slot, ...]
    trajectories: tuple[Trajectory | Skipped, ...]
    by_teacher: tuple[bool, ...]

    @property
    def finished(self) -> list[Trajectory]:
        """The trajectories that were not skipped."""
        return [t for t in self.trajectories if isinstance(t, Trajectory)]

    @property
    def sampled_tokens(self) -> int:
        """Tokens that the student sampled for this step."""
        both = zip(self.trajectories, self.by_teacher, strict=True)
        own = [t for t, told in both if isinstance(t, Trajectory) and not told]
        return sum(len(turn.reply.ids) for t in own for turn in t.turns)


class ToldReplies:
    """The told teacher's replies: each step's are sampled once and stored for every method.

    ``model`` gives the weights that write for a teacher on a task and seed (those before training,
    the larger ones, adapted ones); ``identity`` what stored replies are known by.
    """

    def __init__(
        self,
        suite: Suite,
        suite_dir: SuiteDir,
        model: Callable[[Teacher, Task, int], PromptFormat],
        identity: Callable[[Teacher, Task, int], Mapping[str, Any] | None],
        engine: Callable[[PromptFormat], Engine],
    ) -> None:
        self.suite, self.suite_dir = suite, suite_dir
        self.model, self.identity, self.engine = model, identity, engine
        self._held: dict[str, dict[int, list[Trajectory | Skipped]]] = {}

    def of_step(
        self, task: Task, seed: int, step: int, *, teacher: Teacher, reads: Reads = "context"
    ) -> list[Trajectory | Skipped]:
        """The replies of one optimiser step, sampled where they are not stored.

        They are known by what was read before they were written, too.
        """
        suite, told, shared = self._place(task, seed, teacher, reads)
        key = shared.path.name
        if key not in self._held:
            self._held = {key: {}}  # one seed's at a time: they can be large
        steps = self._held[key]
        if step not in steps:
            self._write(suite, shared, told, seed, step, partial(self.model, teacher, task, seed))
            steps[step] = [of_row(row) for row in shared.get(_name(step))]
        return steps[step]

    def write(
        self, task: Task, seed: int, step: int, *, teacher: Teacher, reads: Reads = "context"
    ) -> None:
        """Sample and store the replies of one optimiser step, where they are not stored."""
        suite, told, shared = self._place(task, seed, teacher, reads)
        self._write(suite, shared, told, seed, step, partial(self.model, teacher, task, seed))

    def _place(
        self, whole: Task, seed: int, teacher: Teacher, reads: Reads
    ) -> tuple[Suite, Task, SharedDir]:
        """The task's suite, the task as the writer is told of it, and where the replies lie."""
        suite, task = self.suite.for_task(whole.name), readings.telling(whole, reads)
        key = digest(
            {
                "model": self.identity(teacher, whole, seed),
                "task": describe_task(task),
                "sampling": reply_sampling(suite).__dict__,
                "seed": seed,
                "batch": [suite.batch_size, suite.num_generations],
                "lengths": [suite.max_prompt_length, suite.overlong],
            }
        )
        return suite, task, self.suite_dir.shared(f"told-{task.name}", key)

    def _write(
        self,
        suite: Suite,
        shared: SharedDir,
        task: Task,
        seed: int,
        step: int,
        writer: Callable[[], PromptFormat],
    ) -> None:
        if shared.has(_name(step)):
            return
        model = writer()
        # Whole groups, so that a response is sampled beside the same others after a kill too.
        slots = {n: schedule(task, suite, seed, n) for n in _sampled_with(step, suite)}
        sampled = iter(
            sample_replies(
                [slot for of_step in slots.values() for slot in of_step],
                task,
                suite,
                seed,
                model,
                self.engine(model),
                task.contexts(),
            )
        )
        for number, of_step in slots.items():
            shared.put(_name(number), [row_of(next(sampled)) for _ in of_step])


def _name(step: int) -> str:
    return f"step_{step + 1:06d}"


def _sampled_with(step: int, suite: Suite) -> range:
    """The steps whose told responses are sampled together with those of ``step``.

    They depend on no training, and a batch of `rollout_batch_size` takes hardly longer than a small
    one.
    """
    first = group_of(step, suite) * _together(suite)
    return range(first, max(step + 1, min(first + _together(suite), suite.max_steps)))


def group_of(step: int, suite: Suite) -> int:
    """Which of the groups of steps whose told responses are sampled together a step is in."""
    return step // _together(suite)


def _together(suite: Suite) -> int:
    return max(1, suite.rollout_batch_size // (suite.batch_size * suite.num_generations))


class ReplySampler:
    """The replies of a cell's steps, by whoever writes them for its method.

    ``steps``: those that it is asked for, if not a run that is resumed has them behind it.
    """

    def __init__(
        self,
        method: Method,
        task: Task,
        suite: Suite,
        seed: int,
        student: LoadedModel,
        engine: Engine,
        told: ToldReplies,
        steps: range,
    ) -> None:
        self.method, self.task, self.suite, self.seed = method, task, suite, seed
        self.student, self.engine, self.told = student, engine, told
        self.steps = steps

    @cached_property
    def _stored(self) -> StoredReplies | None:
        """What a stored writer's files hold; DataError where it does not fit the steps."""
        if self.method.writer.path is None:
            return None
        stored = held(self.method.writer.path, self.task, self.suite)
        stored.refuse_other_tokens(self.student)
        stored.refuse_lacking(self.seed, self.steps)
        return stored

    def of_step(self, step: int) -> StepReplies:
        """One reply a slot: stored ones of the told teacher or of files, or the student's own."""
        slots = schedule(self.task, self.suite, self.seed, step)
        by_teacher = told_by_teacher(self.method.writer, slots, self.task, self.seed)
        by_place = self._not_sampled(slots, by_teacher, step)
        own = [place for place in range(len(slots)) if place not in by_place]
        if own:
            fresh = sample_replies(
                [slots[place] for place in own],
                self.task,
                self.suite,
                self.seed,
                self.student,
                self.engine,
                None,
            )
            by_place |= dict(zip(own, fresh, strict=True))
        trajectories = tuple(by_place[place] for place in range(len(slots)))
        return StepReplies(tuple(slots), trajectories, tuple(by_teacher))

    def _not_sampled(
        self, slots: Sequence[Slot], by_teacher: Sequence[bool], step: int
    ) -> dict[int, Trajectory | Skipped]:
        """Place -> reply, of those that are read and not sampled."""
        if self._stored is not None:
            return dict(enumerate(self._stored.of_slots(slots)))
        if not any(by_teacher):
            return {}
        method = self.method
        stored = self.told.of_step(
            self.task, self.seed, step, teacher=method.teacher, reads=method.writer.reads
        )
        return {place: stored[place] for place, told in enumerate(by_teacher) if told}
