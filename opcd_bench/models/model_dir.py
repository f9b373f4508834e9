"""Where --model-dir has the model of a Hub name: a folder, known by its weights and its record."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

from opcd_bench.errors import ModelError

VARIABLE = "OPCD_BENCH_MODEL_DIR"
"""The environment variable that stands for --model-dir where it is not given."""

BUILT_IN = ("micro-small", "micro")
"""The names of the model that the package carries, a size each: they never come from elsewhere."""

RECORD = "opcd-bench-source.json"
"""The file in which a folder of ours says what it was made of."""


def given(model_dir: str | None) -> str | None:
    """``model_dir``, or what the environment says; None where neither says anything."""
    return model_dir or os.environ.get(VARIABLE) or None


def mapped(name: str, model_dir: str | Path | None) -> Path | None:
    """The folder that ``model_dir`` has for a Hub name; None where it has none, or for a path.

    Raises ModelError where ``model_dir`` is no folder.
    """
    if model_dir is None or name in BUILT_IN:
        return None
    base = Path(model_dir).expanduser()
    if not base.is_dir():
        raise ModelError(
            f"model_dir: there is no folder {base}. It holds one folder a model, called as on the "
            f"Hub ({base}/HuggingFaceTB/SmolLM2-135M-Instruct). Make it, or give another with "
            f"--model-dir FOLDER or {VARIABLE}=FOLDER"
        )
    parts = PurePosixPath(name).parts
    if is_path(name) or len(parts) > 2 or ".." in parts:
        return None
    return base / name if (base / name).is_dir() else None


def is_path(name: str) -> bool:
    """Whether a model's name can only be a folder's, and no Hub id."""
    return name.startswith((".", "/", "~")) or name.count("/") > 1


def misspelt(name: str) -> str | None:
    """The built-in model that a word without an owner nearly names; None for any other name."""
    near = [] if "/" in name else difflib.get_close_matches(name, BUILT_IN, n=1, cutoff=0.75)
    return near[0] if near else None


def models_in(model_dir: str) -> list[tuple[str, Path]]:
    """(name, folder) of every model below ``model_dir``; raises ModelError as `mapped` does."""
    mapped("", model_dir)
    base = Path(model_dir).expanduser()
    found = {file.parent for pattern in ("*/config.json", "*/*/config.json")
             for file in base.glob(pattern)}  # fmt: skip
    named = [(folder.relative_to(base).as_posix(), folder) for folder in sorted(found)]
    return [(name, folder) for name, folder in named if not name.startswith(".")]


def record(folder: Path) -> dict[str, Any] | None:
    """What a folder of ours says it was made of; None for one of somebody else's.

    Raises ModelError for a record that cannot be read.
    """
    file = folder / RECORD
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is no JSON object")
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{file} cannot be read ({error}). Move the folder away and make it again"
        ) from error
