"""Load a student or teacher with its tokenizer: a Hub id, a local folder, or the built-in one."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from opcd_bench.errors import ModelError
from opcd_bench.models import adapters, cpu
from opcd_bench.models.chat_template import prints_date, turn_end
from opcd_bench.models.config_file import checked_config
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.source import (
    attention_words,
    first_line,
    no_room,
    source_of,
    unreachable,
    without_bar,
)
from opcd_bench.models.template_check import check_template

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


BROKEN = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, ZeroDivisionError,
    RecursionError, StrictDataclassError,
)  # fmt: skip
"""What transformers raises of a model's files that are not as it expects them."""


def load(
    name: str,
    *,
    revision: str | None = None,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    trust_remote_code: bool = False,
    attn_implementation: str = "auto",
    enable_thinking: bool = False,
    allow_pickle: bool = False,
    date: str | None = None,
    model_dir: str | None = None,
) -> LoadedModel:
    """The model called ``name``: a Hub id, a folder, or a built-in size.

    Weights are safetensors, and pickles (``*.bin``) only with ``allow_pickle``. ``model_dir`` holds
    folders for Hub ids (`model_dir.mapped`). ``device`` auto is CUDA where there is one; ``dtype``
    auto is bfloat16 on CUDA and float32 on the CPU; ``attn_implementation`` is transformers' word,
    auto its choice. ``date`` (YYYY-MM-DD) is what a chat template that prints today's date prints.
    Raises ModelError, with what to type, for anything that cannot be used.
    """
    where = device_of(device)
    if where.type == "cpu":
        cpu.keep_freed_memory()
    kind = _dtype(dtype, where)
    source = source_of(name, allow_pickle=allow_pickle, model_dir=model_dir)
    if Path(source).is_dir():
        checked_config(name, Path(source))
    shared: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    tokenizer = _tokenizer(name, source, shared)
    attention = attention_words(name, attn_implementation, where, kind)
    formats = {"use_safetensors": None if allow_pickle else True}
    model = _weights(name, source, {**shared, **attention, **formats}, kind)
    try:
        torch.nn.Module.to(model, where)
    except torch.OutOfMemoryError as error:
        raise no_room(name, str(where), error) from error
    torch.nn.Module.eval(model)
    pinned = date if prints_date(tokenizer) else None
    return replace(assemble(name, model, tokenizer), thinking=enable_thinking, date=pinned)


def assemble(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    """A LoadedModel from its two halves, for models that were built or trained in memory."""
    if not tokenizer.chat_template:
        raise ModelError(
            f"model {name!r}: its tokenizer has no chat template, so prompts cannot be rendered. "
            "Add `chat_template.jinja` to its folder, or use the instruction-tuned model"
        )
    eos_ids = _eos_ids(model, tokenizer)
    if not eos_ids:
        raise ModelError(
            f"model {name!r}: neither its tokenizer nor its generation config names an "
            'end-of-sequence token, so no response would end. Set "eos_token" in its '
            "tokenizer_config.json"
        )
    vocab_size = max(tokenizer.get_vocab().values()) + 1
    head: torch.nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    rows = int(head.get_parameter("weight").shape[0])
    if rows < vocab_size:
        raise ModelError(
            f"model {name!r}: its tokenizer has {vocab_size} ids, but its LM head has only "
            f"{rows} rows, so they do not belong together. Use the tokenizer that the weights "
            "were trained with"
        )
    end = turn_end(tokenizer)
    added = None if end is None or _id(tokenizer, end) in eos_ids else end
    limits = [int(model.config.get_text_config().max_position_embeddings)]
    if 0 < tokenizer.model_max_length < 10**9:
        limits.append(int(tokenizer.model_max_length))
    parameter = next(model.parameters())
    pad = tokenizer.pad_token_id
    return LoadedModel(
        name=name,
        model=model,
        tokenizer=tokenizer,
        device=parameter.device,
        dtype=parameter.dtype,
        eos_ids=eos_ids if added is None else (*eos_ids, _id(tokenizer, added)),
        added_end=added,
        pad_id=eos_ids[0] if pad is None else int(pad),
        vocab_size=vocab_size,
        padded_rows=rows - vocab_size,
        max_length=min(limits),
    )


def tokenizer_of(
    name: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    model_dir: str | None = None,
) -> PreTrainedTokenizerBase:
    """The tokenizer alone of the model called ``name``; raises ModelError as ``load`` does."""
    shared = {"revision": revision, "trust_remote_code": trust_remote_code}
    source = source_of(name, allow_pickle=True, model_dir=model_dir)
    return _tokenizer(name, source, shared)


def config_of(
    name: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    model_dir: str | None = None,
) -> PreTrainedConfig:
    """The config alone of the model called ``name``; raises ModelError as ``load`` does."""
    source = source_of(name, allow_pickle=True, model_dir=model_dir)
    if Path(source).is_dir():
        checked_config(name, Path(source))
    try:
        found: PreTrainedConfig = AutoConfig.from_pretrained(
            source,
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
        return found
    except BROKEN as error:
        raise unreachable(name, source, error) from error


def device_of(device: str | torch.device) -> torch.device:
    """The device that a word names; ModelError for one that this machine does not have."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise ModelError(
            f"device {device!r} does not exist; use 'auto', 'cpu', 'cuda' or 'cuda:N'"
        ) from error
    if where.type not in ("cpu", "cuda"):
        raise ModelError(
            f"device {device!r} is not one that models are trained on here; use 'auto', 'cpu', "
            "'cuda' or 'cuda:N'"
        )
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            f"device {str(device)!r}: this machine has no CUDA device that torch can use. "
            "Type --device cpu, or install a CUDA build of torch"
        )
    if where.type == "cuda" and (where.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device {str(device)!r}: this machine has {torch.cuda.device_count()} CUDA devices, "
            f"cuda:0 to cuda:{torch.cuda.device_count() - 1}"
        )
    return where


def _dtype(dtype: str | torch.dtype, where: torch.device) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return torch.bfloat16 if where.type == "cuda" else torch.float32
    if dtype not in _DTYPES:
        raise ModelError(f"dtype {dtype!r} does not exist; use 'auto' or one of {sorted(_DTYPES)}")
    return _DTYPES[dtype]


def _tokenizer(name: str, source: str, shared: dict[str, Any]) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **shared)
    except BROKEN as error:
        raise unreachable(name, source, error) from error
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(f"model {name!r} has a {type(tokenizer).__name__}, not a tokenizer")
    check_template(name, tokenizer)
    return tokenizer


def _weights(name: str, source: str, shared: dict[str, Any], dtype: torch.dtype) -> PreTrainedModel:
    try:
        with without_bar() if Path(source).is_dir() else nullcontext():
            loading: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, output_loading_info=True, **shared
            )
    except safetensors.SafetensorError as error:
        raise ModelError(
            f"model {name!r}: its weights are corrupt ({first_line(error)}). Copy or download "
            f"them again: `hf download {name} --force-download` for a Hub model"
        ) from error
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"model {name!r}: its *.bin is no pickle of weights alone, or is damaged "
            f"({first_line(error)[:80]}). Copy or download it again, or use safetensors"
        ) from error
    except RuntimeError as error:
        raise ModelError(
            f"model {name!r}: its weights do not fit its config.json ({first_line(error)})"
        ) from error
    except BROKEN as error:
        raise unreachable(name, source, error) from error
    model, report = loading
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"model {name!r}: {len(missing)} weights, such as {missing[0]}, are missing from its "
            "*.safetensors and would be random. Copy the whole folder again"
        )
    assert isinstance(model, PreTrainedModel)
    return model


def _eos_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    config = model.generation_config
    named = config.eos_token_id if config is not None else None
    more = named if isinstance(named, list) else [named]
    ordered = dict.fromkeys([tokenizer.eos_token_id, *more])
    return tuple(int(i) for i in ordered if i is not None)


def _id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int)
    return found


def same_vocabulary(a: LoadedModel, b: LoadedModel) -> None:
    """Raise ModelError with the reason unless both mean the same by every token id.

    Padded rows, pad tokens and chat templates may differ; the end of a reply may not.
    """
    pair = f"{a.name!r} and {b.name!r} cannot be student and teacher"
    if a.vocab_size != b.vocab_size:
        raise ModelError(
            f"{pair}: their vocabularies have {a.vocab_size} and {b.vocab_size} tokens. "
            "Choose a teacher of the student's own family"
        )
    tokens_a = {i: token for token, i in a.tokenizer.get_vocab().items()}
    tokens_b = {i: token for token, i in b.tokenizer.get_vocab().items()}
    for i in range(a.vocab_size):
        if tokens_a.get(i) != tokens_b.get(i):
            raise ModelError(
                f"{pair}: token {i} is {tokens_a.get(i)!r} for one and {tokens_b.get(i)!r} for the "
                "other. Choose a teacher with the student's own tokenizer"
            )
    if set(a.eos_ids) != set(b.eos_ids):
        raise ModelError(
            f"{pair}: responses end with {_named(a)} for one and {_named(b)} for the other. Set "
            "the same eos_token_id in both generation_config.json files"
        )


def _named(loaded: LoadedModel) -> str:
    tokens = loaded.tokenizer.convert_ids_to_tokens(list(loaded.eos_ids))
    return " or ".join(f"{token!r} ({i})" for token, i in zip(tokens, loaded.eos_ids, strict=True))


def freeze(loaded: LoadedModel) -> LoadedModel:
    """The same module, which no optimiser can move from now on, in eval mode: a frozen teacher."""
    loaded.model.requires_grad_(False)
    torch.nn.Module.eval(loaded.model)
    return loaded


def reset_modes(loaded: LoadedModel) -> None:
    """Eval mode and no gradients, whatever an attempt that failed half-way left behind."""
    torch.nn.Module.eval(loaded.model)
    loaded.model.zero_grad(set_to_none=True)


def copy_frozen(loaded: LoadedModel) -> LoadedModel:
    """A deep copy that no optimiser can move, in eval mode, without any adapter."""
    return freeze(adapters.plain_copy(loaded))
