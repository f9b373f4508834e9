"""What a reply says apart from its thinking: the only part of it that is ever graded."""

from __future__ import annotations

import re

_BLOCK = re.compile(r"<think>.*?</think>\s*", re.DOTALL)


def without_thinking(reply: str) -> str:
    """``reply`` without its thinking blocks; one that never ends leaves nothing to grade.

    A block that the chat template opened in the prompt ends with a lone ``</think>``.
    """
    left = _BLOCK.sub("", reply)
    _, closed, after = left.partition("</think>")
    left = after.lstrip() if closed else left
    return left.partition("<think>")[0]
