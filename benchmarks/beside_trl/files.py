"""The model files that both sides read: random weights, and a tokenizer of one token a word."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from beside_trl.workloads import EOS, PAD, Shape

TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
SPREAD = 0.1
"""Standard deviation of the weights: enough that teacher and student differ by more than noise."""


def write(shape: Shape, folder: Path) -> None:
    """``student`` and ``teacher`` in ``folder``, of one shape and of different weights."""
    for seed, name in enumerate(("student", "teacher")):
        model = _model(shape, seed)
        model.save_pretrained(folder / name)
        _tokenizer(shape.vocabulary).save_pretrained(folder / name)


def config(shape: Shape) -> Qwen3Config:
    """What transformers builds the shape's model from."""
    return Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=16_384,
        tie_word_embeddings=True,
        initializer_range=SPREAD,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )


def _model(shape: Shape, seed: int) -> Qwen3ForCausalLM:
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config(shape))
    model.generation_config = GenerationConfig(eos_token_id=EOS, pad_token_id=PAD)
    return model


def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    words = {"<end>": EOS, "<pad>": PAD} | {f"w{i}": i for i in range(2, vocabulary)}
    made = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<end>", pad_token="<pad>", chat_template=TEMPLATE
    )
