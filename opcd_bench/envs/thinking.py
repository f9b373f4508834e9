"""What a reply says apart from its thinking: the only part of it that is ever graded."""

from __future__ import annotations

import re

_TAGS = ("think", "thinking", "thought", "reasoning", "seed:think")
_MARKS: tuple[tuple[str, str], ...] = (
    *((f"<{tag}>", f"</{tag}>") for tag in _TAGS),
    (r"\[THINK\]", r"\[/THINK\]"),  # Magistral
    ("◁think▷", "◁/think▷"),  # Kimi
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Command A
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # Sky-T1
    ("<unused94>(?:thought)?", "<unused95>"),  # MedGemma
    (r"<\|channel>thought", r"<channel\|>"),  # Gemma 4
    # gpt-oss: what is said stands in the channel ``final``, all others are thought
    (r"<\|channel\|>(?:analysis|commentary)", r"<\|channel\|>final(?:<\|message\|>)?"),
)
"""How thoughts begin and end, as models write them: the patterns of both marks."""

_MARK = re.compile(
    "|".join(
        f"(?P<open{i}>{opens})|(?P<close{i}>{ends})" for i, (opens, ends) in enumerate(_MARKS)
    ),
    re.IGNORECASE,
)
_OPEN_AT_END = re.compile(rf"(?:{'|'.join(opens for opens, _ in _MARKS)})(?:<\|message\|>)?\s*\Z",
                          re.IGNORECASE)  # fmt: skip
_PIECES = ("<|channel|>", "<|message|>")


def without_thinking(reply: str) -> str:
    """``reply`` without its thinking blocks; one that never ends leaves nothing to grade.

    A block ends with its own mark alone, so that tags which are mentioned in it do not end it. A
    lone closing mark ends a block that began before the reply (`opened_thought`): all before it is
    thought. One pass, whatever the reply is.
    """
    said: list[str] = []
    inside, begin = "", 0
    for mark in _MARK.finditer(reply):
        name = str(mark.lastgroup)
        if name.startswith("open"):
            if not inside:
                said.append(reply[begin : mark.start()])
                inside = name.removeprefix("open")
        elif not inside or inside == name.removeprefix("close"):
            if not inside:
                said.clear()
            inside, begin = "", _after_blanks(reply, mark.end())
    if not inside:
        said.append(reply[begin:])
    return "".join(said)


def _after_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def opened_thought(prompt_end: str) -> str:
    r"""The mark, with the blanks after it, that a prompt's end opens a thought with; else empty.

    Chat templates of models that always think end their prompts with ``<think>\n``; the reply then
    begins within the thought, and does not say so itself.
    """
    found = _OPEN_AT_END.search(prompt_end)
    return found[0] if found else ""


def is_mark(token: str) -> bool:
    """Whether a special token is (a piece of) a mark, so that decoding must not drop it."""
    return token in _PIECES or _MARK.search(token) is not None
