"""The task contract: a task is a set of examples, each of which opens as an episode."""

from __future__ import annotations

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

from opcd_bench.errors import DataError
from opcd_bench.hashing import text_digest
from opcd_bench.seeds import seed_of

Message = dict[str, str]
"""``{"role": "system" | "user" | "assistant", "content": …}``, as chat templates read it."""

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

Placement = Literal["system", "user", "inside"]
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)


def refuse_no_text(what: str, value: Any) -> None:
    """Raise DataError for what a task wrote and no tokenizer reads: no string, half a surrogate."""
    try:
        value.encode()
    except (AttributeError, UnicodeEncodeError) as error:
        raise DataError(
            f"{what} is no text ({error}): {value!a:.60}; it has to be a string that UTF-8 can hold"
        ) from None


@dataclass(frozen=True)
class Context:
    """What the teacher is told and the student is not.

    ``placement`` says where it goes: ``system`` puts it in a system message (before one that is
    there), ``user`` puts it at the head of the first user message, followed by a blank line,
    ``inside`` puts it in the first user message after its first paragraph (the role that a game
    gives; the situation follows), between blank lines. ``false_share``: which share in [0, 1] of
    the text is false, where its author knows; it is for reports alone, and no part of what the
    context is. Raises ValueError for another share.
    """

    text: str
    placement: Placement = "system"
    false_share: float | None = field(default=None, kw_only=True, compare=False)

    def __post_init__(self) -> None:
        refuse_no_text("a context", self.text)
        if self.false_share is not None and not 0.0 <= self.false_share <= 1.0:
            raise ValueError(f"a context's false_share is from 0 to 1, not {self.false_share}")

    @property
    def hash(self) -> str:
        """First ten hex digits of the SHA-256 of placement and text."""
        return text_digest(f"{self.placement}\n{self.text}")

    def tell(self, messages: Sequence[Message]) -> list[Message]:
        """The told reading of plain ``messages``; an empty context changes nothing.

        Raises DataError where there is no user message, or no second paragraph, to put it into.
        """
        told = [dict(message) for message in messages]
        if not self.text:
            return told
        if self.placement == "system":
            if told and told[0]["role"] == "system":
                told[0]["content"] = f"{self.text}\n\n{told[0]['content']}"
            else:
                told.insert(0, {"role": "system", "content": self.text})
            return told
        for message in told:
            if message["role"] == "user":
                message["content"] = self._in(message["content"])
                return told
        raise DataError("a context placed in the user message needs a user message; there is none")

    def _in(self, content: str) -> str:
        """The first user message with the context in it."""
        if self.placement == "user":
            return f"{self.text}\n\n{content}"
        role, blank_line, situation = content.partition("\n\n")
        if not blank_line:
            raise DataError(
                "a context placed inside the user message follows its first paragraph, and this "
                f"message has only one: {content[:60]!r} …. Place it at the head: placement 'user' "
                '(in a suite: context_placement = "user")'
            )
        return f"{role}\n\n{self.text}\n\n{situation}"


@dataclass(frozen=True)
class Contexts:
    """What the teachers of a task are told: one context for all examples, or a pool of several.

    Each example draws one of a pool, by a hash of (task, seed, example id): the same for every
    method. ``by_example``: by one of (task, example id), so that a task can grade by it.
    ``named``: the prompt says which one is drawn. Neither the draw nor the hash depends on the
    order in which a pool is given. Raises ValueError for none at all, or one that is there twice.
    """

    pool: tuple[Context, ...]
    by_example: bool = field(default=False, kw_only=True)
    named: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not self.pool:
            raise ValueError("contexts: at least one is needed")
        if len({context.hash for context in self.pool}) < len(self.pool):
            raise ValueError("contexts: one of them is given twice")
        object.__setattr__(self, "pool", tuple(sorted(self.pool, key=lambda one: one.hash)))

    @property
    def hash(self) -> str:
        """The context's own hash; of a pool, ten hex digits of the SHA-256 of all of theirs."""
        if len(self.pool) == 1:
            return self.pool[0].hash
        drawn = "by example\n" if self.by_example else ""
        return text_digest(drawn + "\n".join(one.hash for one in self.pool))

    def of(self, task: str, seed: int, example_id: str) -> Context:
        """The context that an example is told; ``seed`` is that of whoever reads it."""
        if len(self.pool) == 1:
            return self.pool[0]
        return self.pool[self.drawn(task, seed, example_id)]

    def drawn(self, task: str, seed: int, example_id: str) -> int:
        """The place in the pool of what an example is told."""
        parts = ("example",) if self.by_example else (seed,)
        return seed_of("context", task, *parts, example_id) % len(self.pool)

    def candidates(self, task: str, seed: int, example_id: str) -> tuple[Context, ...]:
        """The contexts that an example may have been told, as far as its prompt can say."""
        return (self.of(task, seed, example_id),) if self.named else self.pool


@dataclass(frozen=True)
class Example:
    """One item. ``content`` is all that makes it what it is; its id is a hash of that.

    ``reference`` (the answer, where there is one) and ``hint`` (instance-specific privileged
    information) are never shown to the student; a teacher may read them if its method says so.
    ``cluster`` names what its answer rests on, where several examples ask for the same in other
    words and it stands for others that might be asked (one fact, one template): they stand or fall
    together, so intervals are over clusters.
    """

    content: Mapping[str, Any]
    reference: str | None = None
    hint: str | None = None
    cluster: str | None = field(default=None, kw_only=True)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        text = json.dumps(self.content, sort_keys=True, ensure_ascii=False)
        object.__setattr__(self, "id", text_digest(text, 16))


OWN_METRICS = (
    "accuracy", "parse_rate", "correct_rate", "wrong_rate", "unparsable_rate", "truncated_rate",
    "failed_rate", "skipped_rate", "reply_tokens",
)  # fmt: skip
"""What is measured on every task; no other grader's verdict can have one of these names."""


@dataclass(frozen=True)
class Grade:
    """What a finished episode is worth.

    ``score`` is in [0, 1], or None when no answer could be read from the replies (unparsable);
    ``answer`` is what was read, ``why`` one line that a person can check. ``also`` is what other
    graders make of the same answer, by name, in [0, 1]: a metric each, never the score. A task
    that has them gives them in every grade. Raises ValueError for a value outside, and for a name
    of `OWN_METRICS`.
    """

    score: float | None
    answer: str | None
    why: str
    also: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.score is not None and not 0.0 <= self.score <= 1.0:
            raise ValueError(f"a grade's score lies in [0, 1] or is None, not {self.score!r}")
        if not all(0.0 <= value <= 1.0 for value in self.also.values()):
            raise ValueError(f"other graders' values lie in [0, 1], not {dict(self.also)!r}")
        if taken := [name for name in self.also if name in OWN_METRICS]:
            raise ValueError(
                f"a grade's also has {taken[0]!r}, which is measured on every task; use another "
                f"name than {', '.join(OWN_METRICS)}"
            )


@dataclass(frozen=True)
class Turn:
    """What follows a reply: the messages that the student reads next, and whether it is over.

    ``messages`` REPLACES the episode's plain messages (a game with ``history="last"`` forgets the
    turns before; with ``"full"`` it repeats them and the assistant's replies); () at the end will
    do. TypeError where it is no tuple or list.
    """

    messages: tuple[Message, ...]
    done: bool

    def __post_init__(self) -> None:
        if not isinstance(self.messages, (tuple, list)):
            raise TypeError(
                f"Turn: messages is {self.messages!r}; give a tuple of the messages to answer "
                "next, and at the end () or the last ones again"
            )


class Unreadable(Exception):
    """A reply of a game could not be read: the reader raised, not the environment."""


class Episode(ABC):
    """One attempt at one example: single use, no reset.

    Protocol: read ``messages``; while not done, ``step(reply)``; then ``grade()``. What ``grade``
    raises, and the ``step`` of a task of one turn, is the reply's doing if other replies are graded
    (unparsable, which counts as 0); all else that an episode raises is the environment's (failed,
    and in no mean). `Unreadable` says of a step in a game that it is the reply's.
    """

    messages: Sequence[Message]
    """The plain messages to answer next; they end with a user's turn."""

    @abstractmethod
    def step(self, reply: str) -> Turn:
        """Take the student's reply; also sets ``messages`` to the turn's."""

    @abstractmethod
    def grade(self) -> Grade:
        """The grade of the episode as it stands; an unfinished episode is graded as lost."""

    def feedback(self) -> str:
        """What the environment said of the attempt, never the reference answer; may be empty."""
        return ""


@dataclass(frozen=True)
class Floor:
    """What a policy that does not use the context scores on examples, in [0, 1], and how."""

    name: str
    value: float
    how: str


@dataclass(frozen=True)
class BestPossible:
    """What the best possible policy scores (1.0 where every item is solvable)."""

    value: float
    how: str


PROBE = "probe"
"""In place of a split, where samples of a task's further test sets are stored."""

TRAINING_PROMPTS = "training_prompts"
"""The further test set that a suite adds to any task: prompts that are trained on."""


@dataclass(frozen=True)
class Probe:
    """A further test set of a task, reported apart: it asks what the test split does not.

    ``reads`` is what the model under test reads with its prompts: nothing; the context, as the
    task's teachers are told it; or another context. Its examples open and are graded as the task's
    others. ``name`` is lower-case letters, digits and underscores; ``summary`` is one line.
    ``floors``: a function of examples, since a suite may ask the first of them alone; or floors
    that hold for any of them.
    """

    name: str
    summary: str
    examples: Sequence[Example]
    floors: Sequence[Floor] | Callable[[Sequence[Example]], Sequence[Floor]]
    reads: Literal["nothing", "context"] | Context = "nothing"

    @property
    def floors_here(self) -> Sequence[Floor]:
        """The floors of its examples."""
        return self.floors(self.examples) if callable(self.floors) else self.floors

    def told(self, task: Task) -> Contexts | None:
        """What the model under test reads with the prompts of ``task``; None for nothing."""
        if self.reads == "nothing":
            return None
        return task.contexts() if self.reads == "context" else Contexts((self.reads,))


class Task(ABC):
    """A set of examples with a context that helps on them.

    ``name`` and ``version`` identify the numbers made with it: a change that moves numbers bumps
    the version. ``summary`` is one line. ``max_turns`` is the most replies an episode takes.
    """

    name: str
    version: int
    summary: str
    max_turns: int = 1
    data_dir: str | None = None
    """The folder of local data that it was built with, if it reads any; no number depends on it."""
    given: Contexts | None = None
    """What a suite tells in place of the task's own context; set by ``telling``."""
    source_hash: str | None = None
    """A hash of its file, where that does not ship with the harness: set by who loads it."""
    leak_patterns: tuple[str, ...] = ()
    """Regular expressions of what only a reader of its context would say (`envs.leakage`)."""
    for_built_in: bool = False
    """Whether its prompts do not say in which form to answer, which the built-in model knows."""
    train_graded: bool = True
    """Whether replies to train examples are graded; only a replay's (`experience.replay`) are not.
    """

    def options(self) -> Mapping[str, Any]:
        """Settings of this instance that numbers depend on (part of every hash)."""
        return {}

    def training(self) -> Mapping[str, Any]:
        """What its train examples are, where they are not its own (part of a cell's identity)."""
        return {}

    def source(self) -> Mapping[str, str]:
        """The hash of its file as a part of every hash; nothing of a task that ships."""
        return {} if self.source_hash is None else {"source_hash": self.source_hash}

    @abstractmethod
    def context(self) -> Context:
        """The task's own shared context, which its teachers are told unless another is given."""

    def contexts(self) -> Contexts:
        """What its teachers are told: what a suite gives, or else the task's own context."""
        return self.given or Contexts((self.context(),))

    def telling(self, contexts: Contexts) -> Self:
        """The same task with other contexts; everything else is shared."""
        other = copy.copy(self)
        other.given = contexts
        return other

    @abstractmethod
    def examples(self, split: Split) -> Sequence[Example]:
        """The examples of a split in fixed order; the three splits are disjoint by content."""

    @abstractmethod
    def open(self, example: Example, seed: int) -> Episode:
        """A fresh episode; ``seed`` fixes whatever chance the environment has."""

    @abstractmethod
    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        """What policies that do not use the context score on these examples of a split."""

    @abstractmethod
    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        """What a perfect policy scores on these examples of a split."""

    def probes(self) -> Sequence[Probe]:
        """Further test sets, scored once as test is; none unless the task has some."""
        return ()


def floors_and_best(task: Task, examples: Sequence[Example]) -> tuple[dict[str, float], float]:
    """What is scored on examples at least and at most: floors by name, and the best possible."""
    floors = {floor.name: floor.value for floor in task.floors(examples)}
    return floors, task.best_possible(examples).value


def assert_disjoint(task: Task) -> None:
    """Raise DataError if any two splits of ``task`` share an example, or one repeats an example."""
    seen: dict[str, Split] = {}
    for split in SPLITS:
        for example in task.examples(split):
            if example.id in seen:
                raise DataError(
                    f"task {task.name!r}: example {example.id} is in both {seen[example.id]!r} "
                    f"and {split!r}; splits must be disjoint by content, so remove it from one "
                    "of them"
                )
            seen[example.id] = split


def describe_task(task: Task) -> dict[str, Any]:
    """All of a task that numbers depend on, as JSON values.

    What its teachers are told enters by the hash of its content: no file's name does.
    """
    return {
        "name": task.name,
        "version": task.version,
        "options": dict(task.options()),
        "context_hash": task.contexts().hash,
        **({"training": dict(training)} if (training := task.training()) else {}),
        **task.source(),
    }
