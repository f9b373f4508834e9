"""Reflection: from an attempt and its feedback, the rules that a told copy would have needed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from opcd_bench.envs.worlds.conversation import Message

ASK = "Look at the task, the reply and the feedback . Write the lessons ."
"""The question that ends every reflection prompt; nothing else of the world asks it."""

ITEM = "- EXPERIENCE ITEM:"
"""What opens a lesson's line."""

_ITEM = re.compile(r"^[ \t]*-[ \t]*EXPERIENCE ITEM:[ \t]*(\S.*)$", re.MULTILINE)


def reflection_messages(
    problem_messages: Sequence[Message], reply: str, feedback: str
) -> list[Message]:
    """The prompt that asks for lessons: the task, the attempt and what the environment said of it.

    ``problem_messages`` are the plain messages of the episode (their user turns are quoted; a
    system message is left out: a reflection never reads what it is to find), ``reply`` the last
    reply, ``feedback`` the environment's own words, which never hold the reference answer.
    """
    problem = "\n".join(m["content"] for m in problem_messages if m["role"] == "user")
    content = f"TASK\n{problem}\nREPLY\n{reply}\nFEEDBACK\n{feedback}\n{ASK}"
    return [{"role": "user", "content": content}]


def reflection_reply(lessons: Sequence[str]) -> str:
    """The reply of a reflection: one line for each lesson, worded as a context words its rules."""
    return "\n".join(f"{ITEM} {lesson}" for lesson in lessons)


def lessons_of(reply: str) -> list[str]:
    """The lessons that a reflection's reply holds, in order; empty where it holds none."""
    return [match.strip() for match in _ITEM.findall(reply)]
