"""What a pre-training begins with: the tokenizer of its own text, fresh weights, optimisers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from opcd_bench.models.micro import mixture
from opcd_bench.models.micro import tokenizer as micro_tokenizer
from opcd_bench.models.micro.recipe import PretrainRecipe
from opcd_bench.models.source import source_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM


def make_tokenizer(out: Path, recipe: PretrainRecipe, seed: int) -> PreTrainedTokenizerBase:
    """The tokenizer of ``out``; made there if absent: another size's, or one of its own text."""
    from transformers import AutoTokenizer

    made: PreTrainedTokenizerBase
    if not (out / "tokenizer.json").exists() and recipe.tokenizer_of is not None:
        made = AutoTokenizer.from_pretrained(source_of(recipe.tokenizer_of))
        made.save_pretrained(out)
    elif not (out / "tokenizer.json").exists():
        last = recipe.stages[-1][1]
        drawn = mixture.conversations(seed, -1, recipe.tokenizer_conversations, last)
        texts = [m["content"] for c in drawn for m in c.messages] + [c.reply for c in drawn]
        micro_tokenizer.train(texts, recipe.vocab_size).save_pretrained(out)
    made = AutoTokenizer.from_pretrained(out)
    return made


def make_model(
    recipe: PretrainRecipe, tokenizer: PreTrainedTokenizerBase, seed: int
) -> Qwen3ForCausalLM:
    """Fresh weights for ``seed``."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=recipe.vocab_size,
        hidden_size=recipe.hidden_size,
        num_hidden_layers=recipe.layers,
        intermediate_size=recipe.intermediate_size,
        num_attention_heads=recipe.heads,
        num_key_value_heads=2,
        head_dim=recipe.head_dim,
        tie_word_embeddings=True,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)


def make_optimizers(model: torch.nn.Module, recipe: PretrainRecipe) -> list[torch.optim.Optimizer]:
    """Muon on the matrices of the blocks (if the recipe says so), AdamW on everything else."""
    import torch

    blocks, matrices, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif "layers." in name and recipe.muon:
            blocks.append(parameter)
        else:
            matrices.append(parameter)
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": recipe.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=recipe.adam_rate,
            betas=(0.9, 0.95),
            fused=True,
        )
    ]
    # Two of them, so that two threads can step them at the same time.
    for half in (blocks[::2], blocks[1::2]) if blocks else ():
        made.append(
            torch.optim.Muon(
                half,
                lr=recipe.learning_rate,
                weight_decay=recipe.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    return made
