"""A low-rank adapter on a model: one copy of the weights, read as the student or as it was before.

LoRA (Hu et al. 2021, arXiv:2106.09685) by ``peft.inject_adapter_in_model``, so that the module
stays the class that it was. (transformers' ``add_adapter`` would do the same, but 5.24 refuses a
peft before 0.22.) The frozen teacher is the same module with the adapter off.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from opcd_bench.errors import MissingPackage, ModelError, StoreError
from opcd_bench.models import shards
from opcd_bench.models.loaded import Adapter, LoadedModel

ALL_LINEAR = "all-linear"
NAME = "default"
_PREFIX = "base_model.model."
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def require_peft() -> None:
    """Raise MissingPackage where no adapter can be had."""
    if importlib.util.find_spec("peft") is None:
        raise MissingPackage("peft", "pip install 'opcd-bench[lora]'", "lora_rank needs it")


def attach(loaded: LoadedModel, *, rank: int, alpha: int, targets: str, seed: int) -> LoadedModel:
    """Put an adapter on the module, in place; the student's reading of it is returned.

    ``targets``: ``all-linear`` (every linear layer but the LM head), or names of layers, such as
    ``q_proj,v_proj``. It adds ``alpha / rank * B A x`` to a layer's output, without dropout; B
    begins at 0 and A as `reset` says. The base weights are frozen; adapters are float32 at least.
    Raises MissingPackage without peft, ModelError for a layer that there is not.
    """
    require_peft()
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    model: Any = loaded.model
    model.requires_grad_(False)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        bias="none",
        target_modules=_targets(loaded, targets),
        base_model_name_or_path=loaded.name,
    )
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):  # peft draws weights, which `reset` redraws
        inject_adapter_in_model(config, model, NAME)
    layers = tuple(module for module in model.modules() if isinstance(module, LoraLayer))
    student = dataclasses.replace(loaded, adapter=Adapter(layers, config, on=True))
    for parameter in parameters(student):
        if parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()
    reset(student, seed)
    return student


def linear_layers(model: Any) -> list[tuple[str, torch.nn.Module]]:
    """The layers that can have an adapter, by name: every linear one but the LM head."""
    head = model.get_output_embeddings()
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    ]


def parameter_count(model: Any, rank: int, targets: str) -> int:
    """Parameters of an adapter: A of (rank, inputs) and B of (outputs, rank) a layer."""
    names = None if targets == ALL_LINEAR else {name.strip() for name in targets.split(",")}
    return sum(
        rank * sum(module.get_parameter("weight").shape)
        for name, module in linear_layers(model)
        if names is None or name.rpartition(".")[2] in names
    )


def _targets(loaded: LoadedModel, targets: str) -> list[str] | str:
    """What peft is asked to adapt; ModelError for names that no linear layer has."""
    if targets == ALL_LINEAR:
        return ALL_LINEAR
    linear = {name.rpartition(".")[2] for name, _ in linear_layers(loaded.model)}
    names = [name.strip() for name in targets.split(",") if name.strip()]
    if wrong := sorted(set(names) - linear) or (not names and ["nothing"]):
        raise ModelError(
            f"lora_target_modules: {loaded.name} has no layer {wrong[0]!r} to adapt; it has "
            f"{', '.join(sorted(linear))}. Name some of these, or all-linear"
        )
    return names


def before(student: LoadedModel) -> LoadedModel:
    """The same module read with the adapter off: the model before training, frozen."""
    assert student.adapter is not None
    off = dataclasses.replace(student.adapter, on=False)
    return dataclasses.replace(student, adapter=off)


@contextmanager
def active(loaded: LoadedModel) -> Iterator[None]:
    """Let the module compute as ``loaded`` reads it, and as before after the block.

    Outside of any such block the adapter is on.
    """
    adapter = loaded.adapter
    if adapter is None or adapter.layers[0].disable_adapters != adapter.on:
        yield
        return
    _switch(adapter.layers, adapter.on)
    try:
        yield
    finally:
        _switch(adapter.layers, not adapter.on)


def _switch(layers: tuple[Any, ...], on: bool) -> None:
    for layer in layers:
        layer.enable_adapters(on)


def parameters(student: LoadedModel) -> list[torch.nn.Parameter]:
    """The adapter's own parameters, A before B of each layer: all that is trained."""
    assert student.adapter is not None
    return [
        part[NAME].weight
        for layer in student.adapter.layers
        for part in (layer.lora_A, layer.lora_B)
    ]


@torch.no_grad()
def reset(student: LoadedModel, seed: int) -> None:
    """The adapter before training: B = 0, A uniform in ±1/sqrt(inputs), drawn from ``seed``."""
    assert student.adapter is not None
    generator = torch.Generator().manual_seed(seed)
    for layer in student.adapter.layers:
        first, second = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight
        bound = 1.0 / math.sqrt(first.shape[1])
        drawn = torch.empty(first.shape).uniform_(-bound, bound, generator=generator)
        shards.put(first, drawn)
        second.zero_()


@torch.no_grad()
def zero_adapter(student: LoadedModel) -> None:
    """Let the adapter add nothing, as before training."""
    assert student.adapter is not None
    for layer in student.adapter.layers:
        layer.lora_B[NAME].weight.zero_()


@torch.no_grad()
def weights(
    loaded: LoadedModel,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """Name -> weight of the plain model that ``loaded`` computes: merged, or before training.

    Names are those of a checkpoint without an adapter. Merged weights are new tensors of ``dtype``
    (None: the base weights', which rounds in bfloat16), on ``device`` (None: where they are); the
    others are the module's own, and tied ones stay tied.
    """
    model: Any = loaded.model
    state: dict[str, Tensor] = model.state_dict()
    if loaded.adapter is None:
        return state
    found = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in state.items()
        if ".lora_" not in name
    }
    if loaded.adapter.on:
        adapted = set(map(id, loaded.adapter.layers))
        for name, layer in model.named_modules():
            if id(layer) in adapted:
                found[f"{name}.weight"] = merged_weight(layer, device, dtype)
    return found


def merged_weight(
    layer: Any, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> Tensor:
    """The weight of an adapted layer with what the adapter adds; ``device``, ``dtype`` as above."""
    base: Tensor = layer.get_base_layer().weight
    delta: Tensor = layer.get_delta_weight(NAME)
    return (base.to(delta.dtype) + delta).to(device or base.device, dtype or base.dtype)


def plain_copy(loaded: LoadedModel) -> LoadedModel:
    """A deep copy of the model before training, as a module that knows of no adapter."""
    module: Any = copy.deepcopy(loaded.model)
    if loaded.adapter is not None:
        from peft.tuners.lora import LoraLayer

        adapted = [name for name, layer in module.named_modules() if isinstance(layer, LoraLayer)]
        for name in adapted:
            module.set_submodule(name, module.get_submodule(name).get_base_layer())
    return dataclasses.replace(loaded, model=module, adapter=None)


def write_merged(loaded: LoadedModel, folder: Path, dtype: torch.dtype | None = None) -> None:
    """``weights`` as a Hugging Face model folder that knows of no adapter; ``dtype`` as there."""
    model: Any = loaded.model
    if loaded.adapter is None:
        model.save_pretrained(folder)
        return
    with torch.device("meta"):
        shell: Any = type(model)(copy.deepcopy(model.config))
    shell.to(model.dtype)
    shell.generation_config = model.generation_config
    shell.save_pretrained(folder, state_dict=weights(loaded, "cpu", dtype))


def save(student: LoadedModel, folder: Path) -> None:
    """The adapter as a new folder in peft's own format, which ``PeftModel.from_pretrained`` opens.

    Raises StoreError if the folder is there already.
    """
    from safetensors.torch import save_file

    assert student.adapter is not None
    if folder.exists():
        raise StoreError(f"adapter folder {folder} already exists; move it away")
    folder.mkdir(parents=True)
    settings = student.adapter.config.to_dict()
    settings["target_modules"] = sorted(settings["target_modules"])  # peft keeps them as a set
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    (folder / _CONFIG).write_text(text, encoding="utf-8")
    tensors = {
        name: parameter.detach().cpu().contiguous() for name, parameter in _named(student).items()
    }
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})


@torch.no_grad()
def load(student: LoadedModel, folder: Path) -> None:
    """Put an adapter that ``save`` wrote into a student that has one of the same shape, in place.

    Raises StoreError where there is none, or one of another shape.
    """
    from safetensors.torch import load_file

    if not (folder / _WEIGHTS).is_file():
        raise StoreError(
            f"{folder} has no {_WEIGHTS}, so no adapter can be loaded; the checkpoint is of a "
            "run that trained all weights, or it was damaged"
        )
    own, stored = _named(student), load_file(folder / _WEIGHTS)
    shapes = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    if shapes != {name: tuple(parameter.shape) for name, parameter in own.items()}:
        raise StoreError(
            f"{folder}: the adapter has other layers or another rank than this run's; it belongs "
            "to a run with other settings"
        )
    for name, parameter in own.items():
        shards.put(parameter, stored[name])


def _named(student: LoadedModel) -> dict[str, torch.nn.Parameter]:
    """The adapter's parameters by the names that peft's files have."""
    return {
        _PREFIX + name.replace(f".{NAME}.", "."): parameter
        for name, parameter in student.model.named_parameters()
        if ".lora_" in name
    }
