"""Where a model's name leads: a checked folder or a Hub id, or one message that says what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opcd_bench.errors import ModelError
from opcd_bench.models.model_dir import BUILT_IN, is_path, mapped, misspelt

if TYPE_CHECKING:
    import torch

FLASH = "flash_attention_2"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")


def source_of(name: str, *, allow_pickle: bool = False, model_dir: str | None = None) -> str:
    """What from_pretrained is handed: a checked folder, or a Hub id.

    A Hub name that ``model_dir`` has a folder for is that folder. A folder without safetensors is
    refused, unless its pickles may be opened (``allow_pickle``).
    """
    if name in BUILT_IN:
        from opcd_bench.models import micro

        folder = micro.path(name)
    else:
        folder = mapped(name, model_dir) or Path(name).expanduser()
        if not folder.exists():
            if is_path(name):
                raise ModelError(
                    f"model folder {name} does not exist (looked in {folder.absolute()}). Give a "
                    "folder that save_pretrained wrote, a Hub id such as Qwen/Qwen3-1.7B, or "
                    "micro-small"
                )
            if near := misspelt(name):
                raise ModelError(
                    f"model {name!r} is neither built in nor a folder here. Did you mean {near!r}? "
                    "A model of the Hub is given with its owner, such as Qwen/Qwen3-1.7B"
                )
            return name
    if not folder.is_dir():
        raise ModelError(f"model {name}: {folder} is a file; give the folder that holds it")
    files = {path.name for path in folder.iterdir()}
    if "config.json" not in files and "adapter_config.json" in files:
        raise ModelError(
            f"model folder {folder} holds an adapter, not a whole model. Merge it into its base "
            f"first. Type in Python: AutoPeftModelForCausalLM.from_pretrained({str(folder)!r})"
            ".merge_and_unload().save_pretrained('merged'), then save the base's tokenizer into "
            "merged too, and give that folder"
        )
    if "config.json" not in files:
        raise ModelError(
            f"model folder {folder} has no config.json; it needs config.json, *.safetensors and a "
            "tokenizer, as model.save_pretrained and tokenizer.save_pretrained write them"
        )
    if not files & set(_TOKENIZER_FILES):
        raise ModelError(
            f"model folder {folder} has no tokenizer (none of {', '.join(_TOKENIZER_FILES)}). "
            f"Type in Python: AutoTokenizer.from_pretrained(BASE).save_pretrained({str(folder)!r})"
        )
    if not any(file.endswith(".safetensors") for file in files):
        found = sorted(file for file in files if file.endswith((".bin", ".pt", ".pth")))
        if found and allow_pickle:
            return str(folder)
        hint = (
            f"it has {found[0]}, a pickle, which is not opened because it can run code. If you "
            "trust it, add allow_pickle = true to the suite, or load it elsewhere and call "
            "model.save_pretrained(folder)"
            if found
            else "its weights are missing: copy model.safetensors into it"
        )
        raise ModelError(f"model folder {folder} has no *.safetensors; {hint}")
    return str(folder)


def unreachable(name: str, source: str, error: Exception) -> ModelError:
    """What to tell about a model that neither a folder nor the Hub gave.

    ``source`` is what `source_of` made of its name.
    """
    if "trust_remote_code" in str(error):
        return ModelError(
            f"model {name!r} brings its own Python code, which is not run unless you allow it. "
            "Read that code; if you trust it, add --set trust_remote_code=true (in TOML: "
            "trust_remote_code = true; extract and select: --trust-remote-code)"
        )
    if "attention implementation" in str(error) or "attn_implementation" in str(error):
        return ModelError(
            f"model {name!r} cannot use this attn_implementation ({first_line(error)}). Set "
            "attn_implementation = 'auto', or 'eager'"
        )
    if Path(source).is_dir():
        at = "" if source == name or name in BUILT_IN else f" (in {source})"
        return ModelError(f"model {name!r}{at} cannot be opened: {first_line(error)}")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        return ModelError(
            f"model {name!r} is not a local folder and not in the Hub cache, and HF_HUB_OFFLINE "
            f"is set. Type `unset HF_HUB_OFFLINE`, or `hf download {name}` where there is a "
            "connection, or give a folder, or the folder that holds it with --model-dir, or "
            "micro-small"
        )
    if "gated" in str(error).lower() or "401" in str(error):
        return ModelError(
            f"model {name!r} is gated, private or does not exist on the Hub. Accept its licence at "
            f"https://huggingface.co/{name} and type `hf auth login`, or check the spelling"
        )
    return ModelError(
        f"model {name!r} is neither a local folder nor reachable on the Hub. Check the spelling "
        f"and the connection, type `hf download {name}` first, or give a folder, or micro-small "
        f"({first_line(error)})"
    )


def attention_words(
    name: str, attention: str, where: torch.device, dtype: torch.dtype
) -> dict[str, str]:
    """What from_pretrained is told about attention; ModelError where flash attention cannot be."""
    if attention == "auto":
        return {}
    if attention == FLASH:
        from transformers.utils.import_utils import is_flash_attn_2_available

        otherwise = "or set attn_implementation = 'sdpa'"
        if where.type != "cuda":
            raise ModelError(
                f"model {name!r}: attn_implementation = {FLASH!r} needs a GPU, and the device is "
                f"{str(where)!r}; type --device cuda, {otherwise}"
            )
        if not is_flash_attn_2_available():
            raise ModelError(
                f"model {name!r}: attn_implementation = {FLASH!r} needs the package flash-attn; "
                f"type pip install flash-attn --no-build-isolation, {otherwise}"
            )
        if dtype.itemsize > 2:
            raise ModelError(
                f"model {name!r}: attn_implementation = {FLASH!r} needs 16-bit weights, and "
                f"these are {str(dtype).removeprefix('torch.')}; set dtype = 'bfloat16', "
                f"{otherwise}"
            )
    return {"attn_implementation": attention}


def no_room(name: str, where: str, error: Exception) -> ModelError:
    """What to tell about a model that the device has no memory for."""
    return ModelError(
        f"model {name!r} does not fit into the memory of {where} ({first_line(error)}). "
        "`opcd-bench estimate` shows what a run needs. dtype = 'bfloat16' halves the weights, "
        "and with lora_rank = 16 student and frozen teacher share one copy of them"
    )


def first_line(error: BaseException) -> str:
    """The error's type and the first line of its message."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no message'}"


@contextmanager
def without_bar() -> Iterator[None]:
    """No progress bar where nothing is downloaded: a folder is read or written in a moment."""
    from transformers.utils import logging as hf_logging

    bars: Any = hf_logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
