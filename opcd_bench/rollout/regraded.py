"""What a task makes of an attempt with another last reply: whose doing a fault or a grade is."""

from __future__ import annotations

from collections.abc import Sequence

from opcd_bench.envs.task import Example, Grade, Task
from opcd_bench.errors import CellFailed, UserError

CONTROLS = ("", "Answer: 0", "<answer>A</answer>")
"""Replies that any grader can grade; one that cannot grade these or the reference is broken."""
MORE = ("0", "5")
"""What a reply that was cut off might have gone on with."""


def graded(task: Task, example: Example, env_seed: int, replies: Sequence[str]) -> Grade:
    """The grade of a fresh attempt that gives ``replies``; raises whatever the task raises."""
    episode = task.open(example, env_seed)
    for reply in replies:
        episode.step(reply)
    episode.feedback()
    grade = episode.grade()
    if not isinstance(grade, Grade):
        raise TypeError(f"grade() returned {grade!r}, not a Grade")
    return grade


def unread(
    task: Task, example: Example, env_seed: int, before: Sequence[str], error: Exception
) -> Grade | None:
    """The grade of a reply on which the grader raised ``error``: no score, and the reason.

    None where the grader raises on every other reply too: it is broken, and no reply is to blame.
    ``before`` are the replies of earlier turns.
    """
    for control in (*CONTROLS, example.reference or ""):
        try:
            other = graded(task, example, env_seed, (*before, control))
        except (UserError, CellFailed):
            raise
        except Exception:  # a task's own code; the next control is tried
            continue
        lines = str(error).splitlines()
        told = f"{type(error).__name__}: {lines[0][:200] if lines else ''}"
        why = f"the grader raised on this reply, not on others: {told}"
        return Grade(None, None, why, dict.fromkeys(other.also, 0.0))
    return None


def cut_off(
    task: Task, example: Example, env_seed: int, replies: Sequence[str], grade: Grade
) -> Grade | None:
    """The grade of a right attempt that the length limit cut inside its answer; None if elsewhere.

    It is inside where one character more can make the answer another: ``Answer: 12`` might have
    become 120, ``Answer: 12`` and a new line might not.
    """
    *before, last = replies
    for more in MORE:
        try:
            score = graded(task, example, env_seed, (*before, last + more)).score
        except (UserError, CellFailed):
            raise
        except Exception:  # a task's own code: one character more, and it reads nothing
            score = None
        if score != grade.score:
            why = f"cut off by the length limit inside its answer ({grade.why})"
            return Grade(None, grade.answer, why, dict.fromkeys(grade.also, 0.0))
    return None
