"""The prefix probe: what teachers make of a student's own tokens, stored a part at a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from opcd_bench.config.suite import Suite
from opcd_bench.distillation import stored_replies
from opcd_bench.distillation.method import Teacher
from opcd_bench.distillation.sampling import reply_sampling
from opcd_bench.envs import readings
from opcd_bench.envs.task import Contexts, Example, Split, Task, describe_task
from opcd_bench.errors import ConfigError, UnknownName
from opcd_bench.evaluation import handover
from opcd_bench.evaluation.handover import SHARES
from opcd_bench.evaluation.task_scores import first_examples
from opcd_bench.hashing import digest
from opcd_bench.models import saving
from opcd_bench.models.loaded import PromptFormat
from opcd_bench.progress import Reporter
from opcd_bench.rollout.engine import Sampling
from opcd_bench.rollout.trajectory import Skipped, Trajectory
from opcd_bench.runner.probing import Student
from opcd_bench.runner.resources import Resources
from opcd_bench.store.suite_dir import PREFIX_PROBE, SharedDir

STUDENT, OWN, IN_CONTEXT = "student", "own", "in-context"


@dataclass(frozen=True)
class Asked:
    """Which examples are used, and how often every prefix is gone on with."""

    split: Split = "dev"
    items: int = 64
    continuations: int = 4
    temperature: float | None = None
    """None: as the suite's rollout policy."""


@dataclass(frozen=True)
class Writer:
    """Somebody who goes on: the ``name``, the model, what it is told, and what identifies both."""

    name: str
    loaded: PromptFormat
    contexts: Contexts | None
    identity: Mapping[str, Any]


def teachers_of(described: Iterable[Mapping[str, Any]], larger: bool) -> dict[str, Teacher]:
    """The teachers that a student can be handed over to, by name.

    ``in-context``; with a ``larger`` model ``larger`` and ``larger-no-context``; and those of the
    methods that are ``described``. Names are those of `readings.teacher_name`.
    """
    found = {IN_CONTEXT: Teacher()}
    if larger:
        found |= {"larger": Teacher("larger"), "larger-no-context": Teacher("larger", "nothing")}
    for method in described:
        name = readings.teacher_name(method["teacher"])
        if name is not None and name not in found:
            found[name] = _begun(Teacher(**method["teacher"]))
    return found


def _begun(teacher: Teacher) -> Teacher:
    """A teacher as it begins: one that changes with the student is the student before training."""
    if teacher.weights == "adapted":
        return teacher
    return Teacher("larger" if teacher.weights == "larger" else "initial", teacher.reads)


def chosen(known: Mapping[str, Teacher], names: Sequence[str] | None) -> dict[str, Teacher]:
    """Those that are asked for; UnknownName for one that the suite does not have."""
    for name in names or ():
        if name not in known:
            raise UnknownName("teacher", name, known, "adapted ones come with a method's runs")
    return {name: known[name] for name in names or known}


def sampling_of(suite: Suite, asked: Asked) -> Sampling:
    """How first responses and continuations are drawn; ConfigError for greedy decoding."""
    found = reply_sampling(suite)
    if asked.temperature is not None:
        found = replace(found, temperature=asked.temperature)
    if found.greedy:
        raise ConfigError(
            "probe prefix: at temperature 0 every continuation of a prefix is the same, and the "
            "student's own luck cannot be measured; give --temperature 1"
        )
    return found


class PrefixProbe:
    """Hands the responses of students over, and keeps every continuation in ``shared/``.

    A part is one prefix owner, one writer and one share: after a kill, those that lack are made.
    """

    def __init__(
        self, resources: Resources, asked: Asked, teachers: Mapping[str, Teacher], console: Reporter
    ) -> None:
        self.resources, self.asked, self.console = resources, asked, console
        self.teachers = teachers
        self.sampling = sampling_of(resources.suite, asked)

    def probe(self, student: Student, task: Task) -> None:
        """The student itself and every teacher go on from the student's prefixes, and teachers
        from their own.
        """
        seed = int(student.about["seed"])
        loaded = student.load()
        weights = saving.weights_hash(loaded.model)
        own = Writer(STUDENT, loaded, None, {**self._model(), "weights": weights})
        for writer in (own, *(self._writer(name, task, seed) for name in self.teachers)):
            for share in SHARES:
                given = self._part(task, own, writer, share, seed)
                self._list(student, task, writer, STUDENT, share, given)
                if writer is not own:  # of nothing, both are alike
                    part = self._part(task, writer, writer, share, seed) if share else given
                    self._list(student, task, writer, OWN, share, part)

    def own(self, task: Task, seed: int, name: str) -> None:
        """A teacher goes on from its own responses, which all students of a seed stand beside."""
        writer = self._writer(name, task, seed)
        for share in filter(None, SHARES):
            self._part(task, writer, writer, share, seed)

    def _model(self) -> dict[str, Any]:
        """What identifies a student besides its weights."""
        return {k: v for k, v in self.resources.models.identity.items() if k != "weights"}

    def _writer(self, name: str, task: Task, seed: int) -> Writer:
        teacher = self.teachers[name]
        loaded = self.resources.told_by(teacher, task, seed)
        reads = None if teacher.reads == "nothing" else readings.telling(task, teacher.reads)
        identity = {
            "model": self.resources.identity_of(teacher, task, seed),
            "reads": teacher.reads,
        }
        return Writer(name, loaded, reads.contexts() if reads else None, identity)

    def _part(
        self, task: Task, owner: Writer, writer: Writer, share: float, seed: int
    ) -> dict[str, str]:
        """Where the rows of one part lie, made where they are not stored."""
        examples = first_examples(task, self.asked.split, self.asked.items)
        key = self._key(task, examples, owner, seed)
        shared = self.resources.suite_dir.shared(
            f"prefix-{task.name}", digest({**key, "writer": writer.identity})
        )
        name = f"from-{round(100 * share):02d}"
        if not shared.has(name):
            first = self._first(task, examples, owner, key, seed)
            whose = "its own" if owner is writer else f"the {owner.name}'s"
            title = f"{task.name}: {writer.name} goes on from {share:.0%} of {whose}"
            with self.console.phase(title, None, "responses") as phase:
                suite = self.resources.suite.for_task(task.name)
                rows = handover.continued(
                    task, self.asked.split, examples, first, share, self.asked.continuations,
                    writer.loaded, self.resources.models.engine(writer.loaded), self.sampling,
                    suite, seed, writer.contexts,
                )  # fmt: skip
                phase.advance(len(rows))
            shared.put(name, rows)
        return {"shared": shared.path.name, "name": name}

    def _list(
        self,
        student: Student,
        task: Task,
        writer: Writer,
        prefixes: str,
        share: float,
        stored: Mapping[str, str],
    ) -> None:
        row = {
            "student": dict(student.about),
            "task": task.name,
            "writer": writer.name,
            "prefixes": prefixes,
            "share": share,
            "protocol": {**asdict(self.asked), "temperature": self.sampling.temperature},
            **stored,
        }
        self.resources.suite_dir.merge({PREFIX_PROBE: [row]})

    def _key(
        self, task: Task, examples: Sequence[Example], owner: Writer, seed: int
    ) -> dict[str, Any]:
        return {
            "task": describe_task(task),
            "split": self.asked.split,
            "examples": [example.id for example in examples],
            "continuations": self.asked.continuations,
            "sampling": self.sampling.__dict__,
            "seed": seed,
            "prefixes": owner.identity,
        }

    def _first(
        self,
        task: Task,
        examples: Sequence[Example],
        owner: Writer,
        key: Mapping[str, Any],
        seed: int,
    ) -> list[Trajectory | Skipped]:
        """The responses that are handed over, written once."""
        shared: SharedDir = self.resources.suite_dir.shared(f"prefix-{task.name}", digest(key))
        if not shared.has("first"):
            suite = self.resources.suite.for_task(task.name)
            engine = self.resources.models.engine(owner.loaded)
            with self.console.phase(f"{task.name}: {owner.name} writes", None, "responses"):
                written = handover.first_responses(
                    task, examples, owner.loaded, engine, self.sampling, suite, seed, owner.contexts
                )
            shared.put("first", [stored_replies.row_of(one) for one in written])
        return [stored_replies.of_row(row) for row in shared.get("first")]
