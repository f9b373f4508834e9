"""The plain prompt of a math problem: the problem, and how its answer is to be written."""

from __future__ import annotations

FORM = (
    "Work it out step by step, and put the result on a last line of its own that begins with "
    "`Answer:` and holds nothing else."
)


def question(problem: str) -> str:
    """The user message for a problem."""
    return f"{problem}\n\n{FORM}"
