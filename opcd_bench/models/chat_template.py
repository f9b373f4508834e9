"""Chat templates: conversations as text, and what a template brings with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date as Date
from datetime import datetime, time
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from opcd_bench.envs.task import Message
from opcd_bench.errors import DataError
from opcd_bench.models.content import MARK, controls_of

_TODAY = re.compile(r"""\bstrftime_now\(\s*(?P<quote>['"])(?P<format>[^'"\\]*)(?P=quote)\s*\)""")
_ASKED = re.compile(r"\bstrftime_now\s+is\s+(not\s+)?(un)?defined\b")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_IN_THE_USER_MESSAGE = (
    "If it has no system message, place the context in the user message: --context FILE --set "
    "context_placement=user"
)
_CORRECT_IT = "Correct chat_template.jinja in the model's folder, or use another model"


def rendered(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    thinking: bool = False,
    date: str | None = None,
    asks: bool = True,
) -> str:
    """A conversation as text; ``asks``: up to where the reply begins.

    ``date`` (YYYY-MM-DD) is what a template that prints today's date prints; None: today's. Raises
    DataError if the template refuses the messages, or fails on them.
    """
    try:
        text = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tokenize=False,
            add_generation_prompt=asks,
            enable_thinking=thinking,
            **date_words(tokenizer, date),
        )
    except Exception as error:  # a template is foreign code: whatever it raises is its fault
        roles = ", ".join(message["role"] for message in messages)
        if type(error) is jinja2.TemplateError:  # the template's own words: raise_exception
            hint = "" if "system" not in roles else f". {_IN_THE_USER_MESSAGE}"
            raise DataError(
                f"the chat template refuses messages of the roles {roles}: {error}{hint}"
            ) from error
        line = f", line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
        raise DataError(
            f"the chat template fails on messages of the roles {roles} ({type(error).__name__}"
            f"{line}: {error}). {_CORRECT_IT}"
        ) from error
    assert isinstance(text, str)
    return text


def date_words(tokenizer: PreTrainedTokenizerBase, date: str | None) -> dict[str, Any]:
    """What ``apply_chat_template`` is given so that it prints ``date`` as today's.

    It is the template with the date written in: no function can be given to one.
    """
    if date is None:
        return {}
    day = datetime.combine(Date.fromisoformat(date), time())
    template = tokenizer.get_chat_template()
    return {"chat_template": _TODAY.sub(lambda f: f'"{day.strftime(f["format"])}"', template)}


def prints_date(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template prints today's date.

    DataError where its format is not written in the template: then it cannot be pinned.
    """
    template = _COMMENT.sub("", str(tokenizer.chat_template))
    rest = _ASKED.sub("", _TODAY.sub("", template))
    if "strftime_now" in rest:
        raise DataError(
            "the chat template prints the time of day in a format that is not written in it as "
            "strftime_now('%d %b %Y') would be, so that no two runs would read the same. Write it "
            "there, in chat_template.jinja in the model's folder"
        )
    return _TODAY.search(template) is not None


def default_system(tokenizer: PreTrainedTokenizerBase) -> str:
    """The system prompt of the template's own that a system message replaces; empty: there is none.

    It is what a prompt without system message holds and one with it does not.
    """
    ask = {"role": "user", "content": "?"}
    try:
        plain = rendered(tokenizer, [ask])
        told = rendered(tokenizer, [{"role": "system", "content": MARK}, ask])
    except DataError:
        return ""
    start = _alike(plain, told)
    plain, told = plain[start:], told[start:]
    return plain[: len(plain) - _alike(plain[::-1], told[::-1])].strip()


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def turn_end(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The control token with which the template ends the model's turn, if it does."""
    talk = [{"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}]
    try:
        text = rendered(tokenizer, talk, asks=False)
    except DataError:
        return None
    _, said, tail = text.rpartition(MARK)
    return controls_of(tokenizer).at_start(tail.lstrip()) if said else None
