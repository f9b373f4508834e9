"""What teachers and rollout policies may read, and what teachers and ceilings are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

from opcd_bench.envs.task import SPLITS, Context, Contexts, Example, Split, Task
from opcd_bench.errors import DataError
from opcd_bench.hashing import text_digest

Reads = Literal["context", "hint", "reference", "other_hint", "nothing"]
READS: tuple[Reads, ...] = get_args(Reads)
"""The task's shared context; the example's own hint; its reference answer; the hint of another
example, the control of hints; or nothing."""


def told(reads: Reads, task: Task, example: Example, seed: int) -> Context | None:
    """What is told before this example's prompt; ``seed`` is that of whoever reads it.

    Raises DataError where the example has no such text.
    """
    if reads == "nothing":
        return None
    context = task.contexts().of(task.name, seed, example.id)
    if reads == "context":
        return context
    of = hint_lender(task, example) if reads == "other_hint" else example
    text = of.reference if reads == "reference" else of.hint
    if text is None:
        raise DataError(
            f"task {task.name!r}: example {of.id} has no {_lacks(reads)}, which the method's "
            "teacher or rollout policy reads; use a task that gives one, or reads = 'context'"
        )
    return Context(reference_words(text) if reads == "reference" else text, context.placement)


def hint_lender(task: Task, example: Example) -> Example:
    """The example of the same split whose hint a reader of ``other_hint`` is told.

    The nearest one before it with another hint (before the first comes the last): the same words
    would be its own hint. The one before it where all hints are alike.
    """
    lenders = _LENDERS.get(task)
    if lenders is None:
        lenders = _LENDERS[task] = {}
        for split in SPLITS:
            lenders.update(_lenders(task.examples(split)))
    return lenders[example.id]


def _lenders(examples: Sequence[Example]) -> dict[str, Example]:
    """Example -> the nearest one before it with another hint, round the end."""
    found: dict[str, Example] = {}
    other: Example | None = None  # the nearest with another hint than the one before
    before: Example | None = None
    for one in [*examples, *examples]:  # the first round finds what lies before the first
        if before is not None:
            other = before if before.hint != one.hint else other
            found[one.id] = other or before
        before = one
    return found


_LENDERS: WeakKeyDictionary[Task, dict[str, Example]] = WeakKeyDictionary()


def _lacks(reads: Reads) -> Literal["hint", "reference"]:
    """The part of an example that is read."""
    return "reference" if reads == "reference" else "hint"


def reference_words(reference: str) -> str:
    """How a teacher is told an example's answer."""
    return f"The answer is {reference}."


@dataclass(frozen=True)
class OwnTexts(Contexts):
    """In the place of a task's contexts: what each example is told of its own, hint or reference.

    ``of`` raises DataError for an example that has none.
    """

    pool: tuple[Context, ...]
    task: Task
    reads: Reads
    examples: dict[str, Example] = field(default_factory=dict, compare=False, repr=False)

    @property
    def hash(self) -> str:
        """Ten hex digits of what is read, and of where it stands: texts are the examples' own."""
        way = f"{self.reads} of another's words" if self.reads == "other_hint" else self.reads
        return text_digest(f"{way}\n{self.task.contexts().hash}")

    def of(self, task: str, seed: int, example_id: str) -> Context:
        """What an example is told; ``seed`` is that of whoever reads it."""
        if not self.examples:
            every = (one for split in SPLITS for one in self.task.examples(split))
            self.examples.update((example.id, example) for example in every)
        found = told(self.reads, self.task, self.examples[example_id], seed)
        assert found is not None, "nothing is read as no contexts at all"
        return found


def telling(task: Task, reads: Reads) -> Task:
    """The task whose readers are told what ``reads`` says, in place of the shared context."""
    if reads in ("context", "nothing"):
        return task
    return task.telling(OwnTexts(task.contexts().pool, task, reads))


def behind(task: Task) -> Task:
    """The task that `telling` began with."""
    contexts = task.contexts()
    return contexts.task if isinstance(contexts, OwnTexts) else task


def lacking(reads: Reads, task: Task, split: Split) -> list[Example]:
    """The examples of a split that do not have what is read."""
    if reads in ("context", "nothing"):
        return []
    return [one for one in task.examples(split) if getattr(one, _lacks(reads)) is None]


def read_by(described: Mapping[str, Any]) -> Reads:
    """What a method distils, by its description: what its teacher reads, or its rollout policy.

    A method whose teacher scores nothing learns from what its rollout policy was told. Where
    neither is told anything, it is the shared context, which a student could be told.
    """
    loss, teacher, writer = (described[key] for key in ("loss", "teacher", "writer"))
    scores = loss.get("teacher_needs") != "none" and teacher["reads"] != "nothing"
    found: Reads = teacher["reads"] if scores else writer.get("reads", "context")
    return found


def ceiling_of(described: Mapping[str, Any]) -> str:
    """The name of the ceiling that a method is measured against, by its description.

    ``ceiling``: the student before training, told the shared context; ``ceiling-larger``: the
    larger teacher; ``ceiling-hint``, ``ceiling-larger-reference``, …: told that instead;
    ``ceiling-adapted-grpo``, ``ceiling-adapted-grpo-told``: a teacher that was adapted so.
    """
    teacher, reads = described["teacher"], read_by(described)
    parts = ["ceiling", *(["larger"] if teacher["weights"] == "larger" else [])]
    if teacher["weights"] == "adapted":
        told = ["told"] if teacher["by_reads"] == "context" else []
        parts += ["adapted", teacher["by"], *told]
    return "-".join([*parts, *([reads.replace("_", "-")] if reads != "context" else [])])


def teacher_name(teacher: Mapping[str, Any]) -> str | None:
    """What probes call a teacher, by its description; None for one that knows no more than the
    student.

    ``in-context``: the student before training, told the shared context; ``with-hint``,
    ``with-reference``: told that; ``larger``, ``larger-no-context``, ``larger-hint``: the suite's
    larger model; ``adapted-grpo``, ``adapted-grpo-with-context-hint``: one that was adapted so.
    A teacher that changes with the student (``ema``, ``live``) is called what it begins as.
    """
    weights, reads = teacher["weights"], teacher.get("reads", "context")
    read = "" if reads == "context" else f"-{reads}".replace("nothing", "no-context")
    read = read.replace("_", "-")
    if weights == "adapted":
        told = "-with-context" if teacher["by_reads"] == "context" else ""
        return f"adapted-{teacher['by']}{told}{read}"
    if weights == "larger":
        return f"larger{read}"
    return {"context": "in-context", "nothing": None}.get(reads, f"with{read}")
