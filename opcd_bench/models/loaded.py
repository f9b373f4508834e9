"""What is known of a model that is loaded: its prompt format, its module, its adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
)


@dataclass(frozen=True)
class Adapter:
    """peft's adapted layers of a module and its settings; ``on``: whether this reading has them."""

    layers: tuple[Any, ...]
    config: Any
    on: bool


@dataclass(frozen=True, kw_only=True)
class PromptFormat:
    """What reading prompts needs to know of a model, wherever its weights are.

    ``eos_ids`` end a reply (the tokenizer's own first, then the generation config's).
    ``vocab_size`` is the tokenizer's: the ids it can decode. ``max_length`` is in tokens, prompt
    and reply. ``thinking``: whether chat templates that know ``enable_thinking`` have it on.
    ``date`` (YYYY-MM-DD): what a template that prints today's date prints; None: today's, or none.
    ``added_end``: the token that ends a turn of the template, where nobody names it as an end of a
    reply; replies end with it too.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase
    eos_ids: tuple[int, ...]
    vocab_size: int
    max_length: int
    thinking: bool = False
    date: str | None = None
    added_end: str | None = None


@dataclass(frozen=True, kw_only=True)
class LoadedModel(PromptFormat):
    """A model in eval mode in this process, and what it and its tokenizer say about token ids.

    The LM head may have ``padded_rows`` more rows than the tokenizer has ids; they are never
    sampled. ``adapter``: low-rank weights on the module, and whether this reading of it has them
    on; what computes with the module does so within ``adapters.active``.
    """

    model: PreTrainedModel
    device: torch.device
    dtype: torch.dtype
    pad_id: int
    padded_rows: int
    adapter: Adapter | None = None
