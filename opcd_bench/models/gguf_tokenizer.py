"""The tokenizer of a GGUF file, mended where transformers reads it otherwise than its model."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer, pre_tokenizers

DIGITS_APART = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell"})
"""Values of ``tokenizer.ggml.pre`` whose tokenizers take every digit by itself, before anything
else; transformers reads them as GPT-2's, which joins the blank before a digit to the digit."""


def mend(tokenizer: Any, *, pre: str | None, listed: int) -> None:
    """Change a tokenizer of transformers in place.

    ``pre``: what the file says of the division into words; ``listed``: how many tokens it lists.
    """
    _forget_unlisted(tokenizer, listed)
    if pre in DIGITS_APART:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False),
            ]
        )


def _forget_unlisted(tokenizer: Any, listed: int) -> None:
    """Without the tokens that GPT-2's class adds to a vocabulary that has them not."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = [token for token in state["added_tokens"] if token["id"] < listed]
    if len(kept) < len(state["added_tokens"]):
        state["added_tokens"] = kept
        tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))
