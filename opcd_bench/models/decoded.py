"""Token ids of a reply as text: without special tokens, but with the marks of its thoughts."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase

from opcd_bench.envs.thinking import is_mark, opened_thought

_TAIL = 64
"""Tokens at the end of a prompt that hold an opening mark, were they bytes."""

_MARKS: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[frozenset[int], frozenset[int]]] = (
    WeakKeyDictionary()
)


def reply_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """What ``ids`` say, without special tokens.

    Where the marks of thoughts are special tokens themselves they stay: dropped, a thought could
    not be told from an answer.
    """
    special, marks = _special(tokenizer)
    kept = [int(i) for i in ids]
    if marks.isdisjoint(kept):
        text = tokenizer.decode(kept, skip_special_tokens=True)
    else:
        kept = [i for i in kept if i not in special or i in marks]
        text = tokenizer.decode(kept, skip_special_tokens=False)
    assert isinstance(text, str)
    return text


def opening(tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int]) -> str:
    """The mark of a thought that the prompt ends with, as it is written there; else empty."""
    text = tokenizer.decode([int(i) for i in prompt_ids[-_TAIL:]], skip_special_tokens=False)
    assert isinstance(text, str)
    return opened_thought(text)


def _special(tokenizer: PreTrainedTokenizerBase) -> tuple[frozenset[int], frozenset[int]]:
    """The ids that decoding drops, and those of them that are marks of thoughts."""
    known = _MARKS.get(tokenizer)
    if known is None:
        named = {int(i): str(token) for i, token in tokenizer.added_tokens_decoder.items()
                 if token.special}  # fmt: skip
        for i in tokenizer.all_special_ids:
            named.setdefault(int(i), str(tokenizer.convert_ids_to_tokens(int(i))))
        marks = frozenset(i for i, token in named.items() if is_mark(token))
        known = _MARKS[tokenizer] = (frozenset(named), marks)
    return known
