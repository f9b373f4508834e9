"""The method contract: who writes the replies, which loss scores them, and who teaches."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from opcd_bench.distillation.losses import own
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
from opcd_bench.distillation.losses.scheduled import Scheduled, forms
from opcd_bench.errors import InvalidLoss
from opcd_bench.hashing import bytes_digest
from opcd_bench.store.suite_dir import TOLD

WORD = re.compile(r"[a-z_][a-z0-9_]*")
"""What a method or a parameter may be called."""
_SET = rf"{WORD.pattern}=[^\[\],=]+"
_NAME = re.compile(rf"{WORD.pattern}(\[{_SET}(,{_SET})*\])?")

_SHARED_FOLDER = re.compile(r".+--[0-9a-f]{10}")

WriterKind = Literal["student", "teacher", "mixture", "stored"]


@dataclass(frozen=True)
class Writer:
    """Who writes the replies that are trained on.

    ``student`` writes plain, with its current weights; ``teacher`` is told what it ``reads``: the
    task's shared context, or the example's own hint or reference (whatever the method's teacher
    reads; with the weights before training, the larger model's or the adapted ones), and its
    trajectories are stored once and shared by every method that reads them; ``mixture`` draws the
    writer of each example, the told teacher with probability ``teacher_share``; ``stored`` reads
    trajectories from a JSONL file, or from a folder of such files (``path``), such as a
    ``shared/told-…/`` of another run.
    """

    kind: WriterKind
    teacher_share: float = 0.0
    path: str | None = None
    reads: Literal["context", "hint", "reference"] = "context"

    def __post_init__(self) -> None:
        if self.reads not in ("context", "hint", "reference"):
            raise InvalidLoss(
                f"writer.reads is {self.reads!r}; use one of context, hint, reference. A rollout "
                "policy that reads nothing is STUDENT"
            )
        if self.reads != "context" and self.kind not in ("teacher", "mixture"):
            raise InvalidLoss(
                f"writer {self.kind!r} reads nothing, so it has no reads = {self.reads!r}; "
                "use the teacher, or a mixture"
            )
        if self.kind not in ("student", "teacher", "mixture", "stored"):
            raise InvalidLoss(
                f"writer {self.kind!r} does not exist; use student, teacher, mixture or stored"
            )
        expected = {"student": 0.0, "teacher": 1.0, "stored": 1.0}.get(self.kind)
        if expected is not None and self.teacher_share != expected:
            raise InvalidLoss(
                f"writer {self.kind!r} has no teacher_share of {self.teacher_share}; "
                "write mixture(teacher_share) for a mixture"
            )
        if self.kind == "mixture" and not 0.0 < self.teacher_share < 1.0:
            raise InvalidLoss(
                f"a mixture's teacher_share lies strictly between 0 and 1, not at "
                f"{self.teacher_share}; use STUDENT or TOLD_TEACHER for the ends"
            )
        if (self.kind == "stored") != (self.path is not None):
            raise InvalidLoss("a stored writer, and no other, names its file: stored('path.jsonl')")

    def describe(self) -> dict[str, Any]:
        """Every choice as JSON values; what is read only where it is not the context."""
        found: dict[str, Any] = {
            "kind": self.kind,
            "teacher_share": self.teacher_share,
            "path": self.path,
        }
        if self.reads != "context":
            found["reads"] = self.reads
        if self.path is not None:
            found["sha256"] = _hash_of(stored_files(self.path))
        return found

    @property
    def on_policy(self) -> bool:
        """Whether every reply is the current plain student's own."""
        return self.kind == "student"


STUDENT = Writer("student")
TOLD_TEACHER = Writer("teacher", 1.0)


def mixture(
    teacher_share: float, reads: Literal["context", "hint", "reference"] = "context"
) -> Writer:
    """Each example's reply is the told teacher's with this probability, else the student's."""
    return Writer("mixture", teacher_share, reads=reads)


def stored(path: str) -> Writer:
    """Replies read from a JSONL file of trajectories, or from a folder of such files."""
    return Writer("stored", 1.0, path)


@dataclass(frozen=True)
class Teacher:
    """Whose weights teach, and what they read.

    ``weights``: ``initial`` is the student before training, frozen; ``larger`` is the suite's
    ``teacher_model``, frozen; ``ema`` follows the student, ``t <- rate t + (1 - rate) s`` after
    every step; ``live`` is the student itself, without gradient; ``adapted`` is the student before
    training, trained on the task ``by`` a method (grpo), once a seed for all methods of a suite
    that say so, frozen. ``by_reads``: what it was told of the task as it was adapted, ``nothing``
    or the ``context``.
    ``reads``: the task's shared ``context``; the example's own ``hint``; the ``reference`` answer;
    ``other_hint``, the hint of another example, which controls for what any hint does; or
    ``nothing``, the null control. ``rows="shuffled"`` permutes the teacher's distributions among
    the reply positions of each micro-batch: the control that must not help.
    """

    weights: Literal["initial", "larger", "ema", "live", "adapted"] = "initial"
    reads: Literal["context", "hint", "reference", "other_hint", "nothing"] = "context"
    rate: float | None = None
    rows: Literal["aligned", "shuffled"] = "aligned"
    by: str | None = None
    by_reads: Literal["nothing", "context"] = "nothing"

    def __post_init__(self) -> None:
        for value, allowed, field in (
            (self.weights, ("initial", "larger", "ema", "live", "adapted"), "weights"),
            (self.reads, ("context", "hint", "reference", "other_hint", "nothing"), "reads"),
            (self.rows, ("aligned", "shuffled"), "rows"),
            (self.by_reads, ("nothing", "context"), "by_reads"),
        ):
            if value not in allowed:
                raise InvalidLoss(f"teacher.{field} is {value!r}; use one of {', '.join(allowed)}")
        if self.weights == "ema":
            if self.rate is None or not 0.0 < self.rate < 1.0:
                raise InvalidLoss(
                    f"an ema teacher needs a rate strictly between 0 and 1, not {self.rate}; "
                    "rate 0 is weights='live' and rate 1 is weights='initial'"
                )
        elif self.rate is not None:
            raise InvalidLoss(f"rate belongs to weights='ema', not to {self.weights!r}")
        if (self.weights == "adapted") != (self.by is not None):
            raise InvalidLoss(
                "an adapted teacher, and no other, names the method that adapts it: "
                "Teacher(weights='adapted', by='grpo')"
            )
        if self.by is None and self.by_reads != "nothing":
            raise InvalidLoss(f"by_reads belongs to weights='adapted', not to {self.weights!r}")
        if self.weights == "live" and self.reads == "nothing":
            raise InvalidLoss(
                "a live teacher that reads nothing is the student itself: the loss is 0 "
                "everywhere; use weights='initial' for the null control"
            )

    def describe(self) -> dict[str, Any]:
        """Every choice as JSON values; what adapts it only where something does."""
        adapted = {} if self.by is None else {"by": self.by, "by_reads": self.by_reads}
        return {
            "weights": self.weights,
            "reads": self.reads,
            "rate": self.rate,
            "rows": self.rows,
            **adapted,
        }


StepLoss = Divergence | PolicyGradient | Callable[..., Any]
"""A Divergence; a policy gradient of rewards; or a contributor's callable
``(student_logits, teacher_logits, reply_ids) -> TokenLoss`` with the same two per-token outputs."""

Loss = StepLoss | Scheduled
"""Or a loss that changes with training, and is one of those at each step."""


@dataclass(frozen=True)
class Stage:
    """How a method begins: other choices for a ``share`` of its optimiser steps, to whole steps.

    The optimiser and the learning rate's schedule go on from one stage to the next.
    """

    share: float
    writer: Writer
    loss: Loss
    teacher: Teacher = Teacher()

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0:
            raise InvalidLoss(
                f"a stage's share of the steps lies strictly between 0 and 1, not at {self.share}"
            )

    def steps(self, max_steps: int) -> int:
        """How many of a run's optimiser steps it takes."""
        return round(self.share * max_steps)


@dataclass(frozen=True)
class Method:
    """Three choices and their provenance; all else belongs to the suite.

    Raises InvalidLoss from the constructor for combinations that cannot do what their name says.
    """

    name: str
    summary: str
    source: str
    writer: Writer
    loss: Loss
    teacher: Teacher = Teacher()
    begins: Stage | None = None
    """What comes before, of the same steps in all; None: the method is the same from first to last.
    """
    control: bool = False
    """A control shows that the harness tells working from broken; reports set it apart."""
    source_hash: str | None = None
    """A hash of its file, where that does not ship with the harness: set by who loads it."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):  # with parameters: opcd[k=4]
            raise InvalidLoss(
                f"method name {self.name!r}: use lower-case letters, digits and underscores"
            )
        for field in ("summary", "source"):
            if not getattr(self, field).strip():
                raise InvalidLoss(f"method {self.name!r}: {field} is empty; say it in one line")
        _refuse_unusable(self.name, self.loss)
        if self.sampled and not self.writer.on_policy:
            why = "estimates its gradient from replies that the current student wrote"
            if not any(getattr(loss, "on_policy_only", False) for loss in _forms(self.loss)):
                why = (
                    "with importance_weight=True needs the log-prob at which the student sampled "
                    "each token, which responses of others lack"
                )
            raise InvalidLoss(
                f"method {self.name!r}: {_id(self.loss)} {why}; use writer=STUDENT "
                "(teacher_share=0), or a loss that sums over its support"
            )
        if self.begins is not None:
            by = {part.teacher.by for part in self.parts}  # each part is refused as a method is
            adapting = sorted(name for name in by if name is not None)
            if len(adapting) > 1:
                raise InvalidLoss(
                    f"method {self.name!r}: its stages have teachers adapted by different methods "
                    f"({', '.join(adapting)}); use one for both"
                )

    @property
    def needs_teacher(self) -> bool:
        """Whether the loss reads a teacher at all."""
        return getattr(self.loss, "teacher_needs", "F") != "none"

    @property
    def sampled(self) -> bool:
        """Whether the loss rests on tokens that the student sampled from its whole distribution.

        An importance weight does not lift that: log-probs are logged of the student's samples
        alone, and of its distribution before top-p and top-k.
        """
        return any(
            isinstance(loss, Divergence | PolicyGradient)
            and (loss.on_policy_only or loss.importance_weight)
            for loss in _forms(self.loss)
        )

    @property
    def rewarded(self) -> bool:
        """Whether the loss reads grades of several replies to an example."""
        return isinstance(self.loss, PolicyGradient) and self.loss.rewarded

    @property
    def parts(self) -> tuple[Method, ...]:
        """The stages in order, each as a method of one stage; of most methods itself alone."""
        if self.begins is None:
            return (self,)
        first = dataclasses.replace(
            self,
            writer=self.begins.writer,
            loss=self.begins.loss,
            teacher=self.begins.teacher,
            begins=None,
        )
        return (first, dataclasses.replace(self, begins=None))

    def spans(self, max_steps: int) -> tuple[tuple[Method, range], ...]:
        """Each of `parts` with the optimiser steps (0-based) of a run that are its own."""
        ends = [max_steps] if self.begins is None else [self.begins.steps(max_steps), max_steps]
        return tuple(
            (part, range(first, last))
            for part, first, last in zip(self.parts, [0, *ends], ends, strict=False)
        )

    def describe(self) -> Mapping[str, Any]:
        """All that makes the method what it is, as JSON values: it enters the run's identity.

        Raises InvalidLoss for a loss of its own that cannot be told from others.
        """
        try:
            found: dict[str, Any] = {"name": self.name, **_choices(self)}
            if self.begins is not None:
                found["begins"] = {"share": self.begins.share, **_choices(self.begins)}
        except InvalidLoss as error:
            raise InvalidLoss(f"method {self.name!r}: {error}") from None
        if self.source_hash is not None:
            found["source_hash"] = self.source_hash
        return found


def _choices(part: Method | Stage) -> dict[str, Any]:
    """Rollout policy, loss and teacher as JSON values."""
    return {
        "writer": part.writer.describe(),
        "loss": own.described(part.loss),
        "teacher": part.teacher.describe(),
    }


_KINDS = (Divergence, PolicyGradient, Scheduled)


_CHANGES = ("begin", "at", "after")
"""What makes a loss one that changes with training, if it is no function too."""


def _forms(loss: Any) -> list[Any]:
    """What a loss is, or becomes with training; a contributor's that fails is refused elsewhere.

    A copy is asked: its code may change it, which a contract of `check` looks for later.
    """
    try:
        return forms(copy.deepcopy(loss)) if isinstance(loss, Scheduled) else [loss]
    except Exception:
        return [loss]


def _refuse_unusable(name: str, loss: Any) -> None:
    """Raise InvalidLoss for what is no loss, or lacks a part of one that changes with training."""
    if isinstance(loss, type):
        raise InvalidLoss(
            f"method {name!r}: the loss is the class {loss.__name__} and no object of it; write "
            f"loss={loss.__name__}()"
        )
    if isinstance(loss, _KINDS):
        return
    has = [part for part in _CHANGES if hasattr(loss, part)]
    if has and (not callable(loss) or len(has) == len(_CHANGES)):
        lacks = [part for part in (*_CHANGES, "metric") if not hasattr(loss, part)]
        typed = " (what its values are called in logs: metric = 'reverse_kl')"
        raise InvalidLoss(
            f"method {name!r}: the loss {type(loss).__name__} has {' and '.join(has)} and no "
            f"{' and no '.join(lacks)}{typed if 'metric' in lacks else ''}; a loss that changes "
            "with training has begin, at, after and metric"
        )
    if not callable(loss):
        raise InvalidLoss(
            f"method {name!r}: the loss is not callable, but a value of type "
            f"{type(loss).__name__}; write one of named(…), or a function"
        )


def _id(loss: Loss) -> str:
    return str(getattr(loss, "id", loss))


def stored_files(path: str) -> list[Path]:
    """The files that a stored writer reads: the one named, or those below a folder, by name.

    Of what the runs of a suite share (``NAME--HASH`` folders) the in-context teacher's steps alone:
    the rest is scores.
    """
    place = Path(path)
    if place.is_dir():
        return sorted(file for file in place.rglob("*.jsonl") if not _is_score(file))
    return [place] if place.is_file() else []


def _is_score(file: Path) -> bool:
    """Whether rows that the runs of a suite share are none that are trained on."""
    folder = file.absolute().parent.name
    steps = folder.startswith(TOLD) and file.name.startswith("step_")
    return _SHARED_FOLDER.fullmatch(folder) is not None and not steps


def _hash_of(files: Sequence[Path]) -> str | None:
    """A hash of stored trajectories, so that other ones are another method; None: not there yet."""
    return bytes_digest(b"".join(file.read_bytes() for file in files), 10) if files else None
