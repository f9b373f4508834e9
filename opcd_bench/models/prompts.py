"""Conversations as token ids, by a model's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from threading import Lock
from weakref import WeakKeyDictionary

from transformers import (
    PreTrainedTokenizerBase,
)

from opcd_bench.envs.task import Context, Message, refuse_no_text
from opcd_bench.errors import DataError
from opcd_bench.models.chat_template import rendered
from opcd_bench.models.content import controls_of, ids_of
from opcd_bench.models.loaded import PromptFormat

_Key = tuple[bool, str | None, str, tuple[tuple[tuple[str, str], ...], ...]]
_KEPT = 2**24
"""Ids of prompts that are kept of a tokenizer, some 400 MB; a context is in each of its prompts."""
_ENTRY = 32
"""What a prompt takes beside its ids and its text, in ids."""


class _Rendered:
    """Prompts of one tokenizer by their messages; the oldest go where ``_KEPT`` is passed."""

    def __init__(self) -> None:
        self._ids: dict[_Key, tuple[int, ...]] = {}
        self._size = 0
        self._lock = Lock()

    def get(self, key: _Key) -> tuple[int, ...] | None:
        """A prompt that is kept."""
        return self._ids.get(key)

    def keep(self, key: _Key, ids: tuple[int, ...]) -> None:
        """Keep one more, also where another thread just did."""
        with self._lock:
            if key in self._ids:
                return
            self._ids[key] = ids
            self._size += len(ids) + _ENTRY
            while self._size > _KEPT:
                self._size -= len(self._ids.pop(next(iter(self._ids)))) + _ENTRY


_RENDERED: WeakKeyDictionary[PreTrainedTokenizerBase, _Rendered] = WeakKeyDictionary()


def prompt_ids(
    reader: PromptFormat | PreTrainedTokenizerBase, messages: Sequence[Message]
) -> tuple[int, ...]:
    """Token ids of a conversation up to where the reply begins, by the chat template.

    Thinking is as the reader says where the template knows ``enable_thinking`` (off for a bare
    tokenizer), and so is today's date; a beginning-of-sequence token is there only if the template
    writes it. What the messages hold stays text, whatever it looks like: control tokens are the
    template's own. A tokenizer's latest prompts are kept. Raises DataError if the template refuses
    the messages, or one of them is no text.
    """
    tokenizer = reader.tokenizer if isinstance(reader, PromptFormat) else reader
    thinking = isinstance(reader, PromptFormat) and reader.thinking
    date = reader.date if isinstance(reader, PromptFormat) else None
    known = _RENDERED.setdefault(tokenizer, _Rendered())
    said = tuple(tuple(message.items()) for message in messages)
    # The template itself, not a text with it: each key would hold a copy.
    key = (thinking, date, str(tokenizer.chat_template), said)
    if (found := known.get(key)) is not None:
        return found
    for message in messages:
        for name, value in message.items():
            refuse_no_text(f"a prompt's {name}", value)
    render = partial(rendered, tokenizer, thinking=thinking, date=date)
    ids = ids_of(tokenizer, controls_of(tokenizer).rendered(messages, render))
    known.keep(key, ids)
    return ids


def told_ids(
    reader: PromptFormat | PreTrainedTokenizerBase, messages: Sequence[Message], context: Context
) -> tuple[int, ...]:
    """`prompt_ids` of plain ``messages`` with a context.

    DataError where the chat template leaves the context out: two others in its place, among
    messages of the same roles, would make one prompt.
    """
    ids = prompt_ids(reader, context.tell(messages))
    alike = [{"role": message["role"], "content": "?\n\n?"} for message in messages]
    others = (Context(text, context.placement).tell(alike) for text in ("one", "other"))
    if context.text and len({prompt_ids(reader, told) for told in others}) == 1:
        name = f" of {reader.name!r}" if isinstance(reader, PromptFormat) else ""
        raise DataError(
            f"the chat template{name} leaves the {context.placement} message with the context out, "
            "so that the in-context teacher would know no more than the student. Place it in the "
            "user message: --context FILE --set context_placement=user"
        )
    return ids
