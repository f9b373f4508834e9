"""The tokenizer: whole words of the world's own text and byte-level BPE, with a ChatML template."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

PATTERN = (
    r" ?[a-f][1-6](?![0-9A-Za-z])"  # a cell of a board, with its space
    r"| ?[0-9]"  # a digit, alone; with its space where a number begins
    r"| ?[A-Za-z]+"
    r"|\n"
    r"| ?[^\sA-Za-z0-9]"  # a mark or a bracket, alone
    r"|\s"
)
"""What is isolated first: no token spans two of these."""

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


MERGES = 64
"""Merges of bytes for what is no whole word."""


def _core(model: models.BPE) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _words(core: Tokenizer, texts: Iterable[str]) -> list[str]:
    """The pieces of ``texts`` that the pattern isolates, as bytes, the most frequent first."""
    counts = Counter(
        piece for text in texts for piece, _ in core.pre_tokenizer.pre_tokenize_str(text)
    )
    return sorted(counts, key=lambda piece: (-counts[piece], piece))


def train(texts: Iterable[str], vocab_size: int = 1344) -> PreTrainedTokenizerFast:
    """A tokenizer trained on ``texts``; deterministic for the same texts in the same order.

    The most frequent pieces are whole tokens without the merges that would lead to them: a name, a
    thing or a digit is one token each, so that looking one up is comparing one token.
    """
    from tokenizers import models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    every = list(texts)
    core = _core(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=3 + 256 + MERGES,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(every, trainer)
    model = json.loads(core.to_str())["model"]
    vocab: dict[str, int] = model["vocab"]
    for word in _words(core, every):
        if len(vocab) < vocab_size:
            vocab.setdefault(word, len(vocab))
    merges = [tuple(pair) for pair in model["merges"]]
    whole = _core(models.BPE(vocab=vocab, merges=merges, ignore_merges=True))
    whole.add_special_tokens([PAD, START, END])
    made: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=whole,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
    return made
