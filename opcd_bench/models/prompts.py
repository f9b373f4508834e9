"""Conversations as token ids, by a model's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import jinja2
from transformers import (
    PreTrainedTokenizerBase,
)

from opcd_bench.envs.task import Message
from opcd_bench.errors import DataError
from opcd_bench.models.loaded import PromptFormat

_Key = tuple[str, tuple[tuple[str, str], ...]]


_RENDERED: WeakKeyDictionary[PreTrainedTokenizerBase, dict[_Key, tuple[int, ...]]] = (
    WeakKeyDictionary()
)


_RENDERED_MOST = 50_000


def prompt_ids(
    reader: PromptFormat | PreTrainedTokenizerBase, messages: Sequence[Message]
) -> tuple[int, ...]:
    """Token ids of a conversation up to where the reply begins, by the chat template.

    Thinking is as the reader says where the template knows ``enable_thinking`` (off for a bare
    tokenizer); a beginning-of-sequence token is
    there only if the template writes it. The same messages are rendered once per tokenizer. Raises
    DataError if the template refuses the messages.
    """
    tokenizer = reader.tokenizer if isinstance(reader, PromptFormat) else reader
    thinking = isinstance(reader, PromptFormat) and reader.thinking
    cache = _RENDERED.setdefault(tokenizer, {})
    said = tuple((message["role"], message["content"]) for message in messages)
    key = (f"{thinking} {tokenizer.chat_template}", said)
    if key in cache:
        return cache[key]
    try:
        text = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
    except jinja2.TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise DataError(
            f"the chat template refuses messages of the roles {roles}: {error}. If it has no "
            "system message, place the context in the user message"
        ) from error
    ids = tuple(int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"])
    if len(cache) >= _RENDERED_MOST:
        cache.clear()
    cache[key] = ids
    return ids
