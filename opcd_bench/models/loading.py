"""Load a student or teacher with its tokenizer: a Hub id, a local folder, or the built-in micro."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from opcd_bench.errors import ModelError
from opcd_bench.models import adapters
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.models.source import (
    attention_words,
    first_line,
    no_room,
    source_of,
    unreachable,
    without_bar,
)

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


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
) -> LoadedModel:
    """The model called ``name``: a Hub id, a folder, or ``micro``.

    Weights are safetensors, and pickles (``*.bin``) only with ``allow_pickle``.
    ``device`` auto is CUDA where there is one; ``dtype`` auto is bfloat16 on CUDA and float32 on
    the CPU; ``attn_implementation`` is transformers' word, auto its choice. Raises ModelError, with
    what to type, for anything that cannot be used.
    """
    where = device_of(device)
    kind = _dtype(dtype, where)
    source = source_of(name, allow_pickle=allow_pickle)
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
    return replace(assemble(name, model, tokenizer), thinking=enable_thinking)


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
        eos_ids=eos_ids,
        pad_id=eos_ids[0] if pad is None else int(pad),
        vocab_size=vocab_size,
        padded_rows=rows - vocab_size,
        max_length=min(limits),
    )


def tokenizer_of(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer alone of the model called ``name``; raises ModelError as ``load`` does."""
    shared = {"revision": revision, "trust_remote_code": trust_remote_code}
    return _tokenizer(name, source_of(name, allow_pickle=True), shared)


def config_of(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedConfig:
    """The config alone of the model called ``name``; raises ModelError as ``load`` does."""
    try:
        found: PreTrainedConfig = AutoConfig.from_pretrained(
            source_of(name, allow_pickle=True),
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
        return found
    except (OSError, ValueError, KeyError) as error:
        raise unreachable(name, error) from error


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
    if where.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            f"device {str(device)!r}: this machine has no CUDA device that torch can use. "
            "Type --device cpu, or install a CUDA build of torch"
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
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise unreachable(name, error) from error
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(f"model {name!r} has a {type(tokenizer).__name__}, not a tokenizer")
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
    except RuntimeError as error:
        raise ModelError(
            f"model {name!r}: its weights do not fit its config.json ({first_line(error)})"
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise unreachable(name, error) from error
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
