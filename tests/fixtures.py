"""Tiny random models with a tokenizer and a chat template, for every test that needs a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from opcd_bench.distillation.teachers.local import FrozenTeacher

SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer(*, extra: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """One token per byte after three special ones: 259 ids, ``<|im_end|>`` (2) ends a reply."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*SPECIAL, *alphabet, *extra]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[2],
        chat_template=CHATML,
    )


def tiny_model(*, seed: int = 0, vocab_size: int = 259, sharpness: float = 9.0, **overrides):
    """A random Qwen3 of 2 layers, hidden 64, two heads of 32 that share one key/value head.

    ``sharpness`` scales the embedding (which is also the LM head): 1 is nearly uniform.
    """
    settings = {
        "vocab_size": vocab_size,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 2,
        "attention_dropout": 0.1,
    }
    config = Qwen3Config(**(settings | overrides))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
        with torch.no_grad():
            for parameter in model.model.layers.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(4.0)
            model.lm_head.weight.mul_(sharpness)
    return model.eval()


def write_tiny_model(folder: Path, **settings) -> Path:
    """Save model and tokenizer (``settings`` are tiny_model's) as a folder that load opens."""
    tiny_model(**settings).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer Qwen3 of 259 ids and a ChatML template; read only."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def tiny_loaded(tiny_model_folder: Path):
    """The tiny model, freshly loaded in float32 on the CPU."""
    from opcd_bench.models.loading import load

    return load(str(tiny_model_folder), device="cpu")


def frozen(model, core):
    """A model of this process as the frozen teacher of a training core."""
    return FrozenTeacher(model, core.suite.temperature)
