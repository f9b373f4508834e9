"""A model as a Hugging Face folder, whole or not at all, and back."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import safetensors
import torch

from opcd_bench.errors import StoreError
from opcd_bench.models import adapters, shards
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.loading import load
from opcd_bench.models.source import (
    first_line,
    without_bar,
)
from opcd_bench.store.files import remove_leftovers_of, temporary_beside


def weights_hash(model: torch.nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of all parameters, in order of names."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
        raw = parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().tobytes())
    return digest.hexdigest()


def save(loaded: LoadedModel, folder: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write model and tokenizer as a new Hugging Face folder: whole, or not at all.

    With an adapter on, the merged weights, in ``dtype`` (None: rounded to the base's): the folder
    opens without peft. What a killed call left of the same folder goes.
    Raises StoreError if the folder exists or cannot be written.
    """
    target = Path(folder)
    if target.exists():
        raise StoreError(f"model folder {target} already exists; give a new one or move it away")
    scratch = temporary_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers_of(target)
        scratch.mkdir()
        with without_bar():
            adapters.write_merged(loaded, scratch, dtype)
        loaded.tokenizer.save_pretrained(scratch)
        scratch.chmod(0o755)
        scratch.rename(target)
    except (OSError, safetensors.SafetensorError) as error:
        raise StoreError(
            f"model folder {target} cannot be written ({first_line(error)}); free space or give "
            "another folder"
        ) from error
    finally:
        if scratch.exists():
            shutil.rmtree(scratch, ignore_errors=True)


def load_weights(loaded: LoadedModel, folder: str | Path) -> None:
    """Put the weights of a folder that ``save`` wrote into a model of the same kind, in place."""
    stored = load(str(folder), device="cpu", dtype=loaded.dtype)
    if not any(map(shards.is_sharded, loaded.model.parameters())):
        loaded.model.load_state_dict(stored.model.state_dict())
        return
    weights = dict(stored.model.named_parameters())
    for name, parameter in loaded.model.named_parameters():
        shards.put(parameter, weights[name])
