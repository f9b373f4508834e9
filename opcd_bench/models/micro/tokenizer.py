"""The tokenizer: byte-level BPE trained on the world's own text, with a ChatML-style template."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
ROLES = ("system", "user", "assistant")

PATTERN = (
    r" ?[a-f][1-6](?![0-9A-Za-z])"  # a cell of a board, with its space
    r"| ?[0-9]"  # a digit, alone; with its space where a number begins
    r"| ?[A-Za-z]+"
    r"|\n"
    r"| ?[^\sA-Za-z0-9]"  # a mark or a bracket, alone
    r"|\s"
)
"""What is isolated before BPE merges bytes: no token spans two of these."""

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def required_tokens() -> list[str]:
    """Strings that must be one token whatever their frequency: cells, digits, marks, roles."""
    cells = [f"{column}{row}" for column in "abcdef" for row in range(1, 7)]
    digits = [str(digit) for digit in range(10)]
    marks = [chr(code) for code in range(33, 127) if not chr(code).isalnum()]
    spaced = [f" {text}" for text in (*cells, *digits, *marks)]
    return [*spaced, *digits, *ROLES]


def train(texts: Iterable[str], vocab_size: int = 1024) -> PreTrainedTokenizerFast:
    """A tokenizer trained on ``texts``; deterministic for the same texts in the same order."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    def assembled(model: models.BPE) -> Tokenizer:
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer

    core = assembled(models.BPE())
    # Each required string is repeated often enough that its merges are learnt first.
    required = (text * 5000 for text in required_tokens())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(itertools.chain(required, texts), trainer)
    made: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
    return made
