"""What a model's own files say before its weights are read: whether and how it can be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opcd_bench.errors import ModelError
from opcd_bench.models.source import source_of
from opcd_bench.store import user_files

_CONFIG, _TOKENIZER = "config.json", "tokenizer.json"
_HEADS = ("num_attention_heads", "num_key_value_heads", "num_hidden_layers", "hidden_size")


@dataclass(frozen=True)
class ModelFiles:
    """A model whose files lie on this machine.

    ``window``: the tokens that it reads, as its config says; None where that does not say it.
    """

    name: str
    folder: Path
    window: int | None

    def tokens(self, text: str) -> int | None:
        """How many tokens a text has; None where the tokenizer is not of the common form."""
        path = self.folder / _TOKENIZER
        if not path.is_file():
            return None
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception:  # the library's own type; loading the model says what is wrong
            return None
        return len(tokenizer.encode(text, add_special_tokens=False).ids)


def on_disk(
    name: str,
    *,
    revision: str | None = None,
    allow_pickle: bool = False,
    model_dir: str | None = None,
) -> ModelFiles | None:
    """The files of the model ``name``; None for one of the Hub's that was not downloaded yet.

    Nothing is asked of the Hub. ``model_dir``: as `source_of` takes it. Raises ModelError for a
    folder without what a model needs, and for a config that no model can be made of.
    """
    source = source_of(name, allow_pickle=allow_pickle, model_dir=model_dir)
    folder = Path(source) if Path(source).is_dir() else _cached(source, revision)
    if folder is None:
        return None
    config = checked_config(name, folder)
    inner = config.get("text_config")
    text = inner if isinstance(inner, Mapping) else config
    window = text.get("max_position_embeddings")
    return ModelFiles(name, folder, window if isinstance(window, int) else None)


def checked_config(name: str, folder: Path) -> Mapping[str, Any]:
    """A model's config; ModelError where transformers would fail on it without saying why."""
    path = folder / _CONFIG
    try:
        config = user_files.json_of(user_files.text_of(path))
    except user_files.Unusable as error:
        raise ModelError(f"model {name!r}: {path}: {error}. Copy or download it again") from None
    if problem := _problem(config):
        raise ModelError(f"model {name!r}: {path}: {problem}. Copy or download it again")
    generation = folder / f"generation_{_CONFIG}"
    if generation.is_file():
        try:
            found = user_files.json_of(user_files.text_of(generation))
        except user_files.Unusable as error:
            raise ModelError(f"model {name!r}: {generation}: {error}. Copy it again") from None
        problem = _eos_problem(found) if isinstance(found, dict) else "it is no object"
        if problem:
            raise ModelError(f"model {name!r}: {generation}: {problem}. Copy it again")
    return dict(config)


def _problem(config: Any) -> str | None:
    if not isinstance(config, dict):
        return f"it holds a {type(config).__name__}, not an object"
    inner = config.get("text_config")
    for found in (config, *([inner] if isinstance(inner, dict) else [])):
        for key in _HEADS:
            value = found.get(key)
            if value is not None and not (_whole(value) and value > 0):
                return f"{key} must be a whole number above 0, not {str(value)[:40]!r}"
        window = found.get("max_position_embeddings")
        if window is not None and not (_whole(window) and window > 0):
            return f"max_position_embeddings must be a whole number above 0, not {window!r:.40}"
        if problem := _eos_problem(found):
            return problem
    return None


def _eos_problem(config: Mapping[str, Any]) -> str | None:
    named = config.get("eos_token_id")
    for one in named if isinstance(named, list) else [named]:
        if one is not None and not (_whole(one) and one >= 0):
            return f"eos_token_id must be a token's number, or a list of them, not {named!r:.40}"
    return None


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _cached(name: str, revision: str | None) -> Path | None:
    """The folder of a Hub model that was downloaded before."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, _CONFIG, revision=revision)
    except HFValidationError:
        raise ModelError(
            f"model {name!r} is neither a folder nor a Hub id; give a folder that save_pretrained "
            "wrote, a Hub id such as Qwen/Qwen3-1.7B, or micro-small"
        ) from None
    return Path(found).parent if isinstance(found, str) else None
