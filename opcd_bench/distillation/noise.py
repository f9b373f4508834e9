"""Randomness of train mode: dropout and routers' jitter are switched off, any other is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedConfig

from opcd_bench.errors import ModelError
from opcd_bench.models import random_states
from opcd_bench.models.loaded import LoadedModel

PROBED = 16
"""Tokens of a pass that is compared with another."""


def disable_dropout(model: torch.nn.Module) -> None:
    """Switch dropout off in train mode too, and the skipping of whole layers.

    The loss compares two passes of one function, and a resumed run must repeat the uninterrupted
    one; noise in one of the passes would break both. Probabilities are numbers whose name says
    `drop`, of modules and of the configs that some read in every pass (Falcon, GPT-Neo); what is
    saved of the model says 0 too.
    """
    for module in model.modules():
        _set_to_zero(module, lambda name: "drop" in name)
        if "Drop" in type(module).__name__:
            _set_to_zero(module, lambda name: name == "p")
        if isinstance(config := getattr(module, "config", None), PreTrainedConfig):
            for one in (config, *filter(_is_config, vars(config).values())):
                _set_to_zero(one, lambda name: "drop" in name)


def _is_config(value: object) -> bool:
    return isinstance(value, PreTrainedConfig)


def _set_to_zero(holder: object, named: Callable[[str], bool]) -> None:
    for name, value in list(vars(holder).items()):
        if named(name) and isinstance(value, int | float) and not isinstance(value, bool):
            setattr(holder, name, type(value)(0))


def to_train_mode(model: torch.nn.Module) -> None:
    """Train mode, in which modules that have a jitter (mixtures of experts) stay in eval mode.

    Their numbers stay as they are: PhiMoE's ``router_jitter_noise`` is a threshold of its routing
    in eval mode too, and in train mode it samples experts whatever its size.
    """
    model.train()
    for module in model.modules():
        if any("jitter" in name for name in vars(module)):
            module.training = False


@torch.no_grad()
def assert_repeatable(loaded: LoadedModel) -> None:
    """Raise ModelError if two passes in train mode give other log-probs, dropout switched off.

    Where nothing is drawn at random, a GPU may still add up in another order: that is let through.
    Modes and random states are left as they were.
    """
    model: Any = loaded.model
    ids = torch.arange(min(PROBED, loaded.vocab_size), device=model.device)[None]
    before = [(module, module.training) for module in model.modules()]
    with random_states.kept():
        try:
            to_train_mode(model)
            state = random_states.now()
            one, other = (
                model(input_ids=ids, use_cache=False).logits[0, :, : loaded.vocab_size].float()
                for _ in range(2)
            )
            drawn = random_states.now() != state or model.device.type == "cpu"
        finally:
            for module, training in before:
                module.training = training
    apart = (one.log_softmax(-1) - other.log_softmax(-1)).abs().nan_to_num().max().item()
    if drawn and apart > 0:
        raise ModelError(
            f"{loaded.name}: in train mode two passes over the same tokens give log-probabilities "
            f"that are up to {apart:.2g} nats apart, so something in it that is neither dropout "
            "nor a router's jitter draws at random. What is trained would not be the model that is "
            "scored, and a resumed run would not repeat. Set that noise to 0 in the model's "
            "config.json, or use another model"
        )
