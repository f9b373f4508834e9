"""Where a number was made: machine, versions, commit, device."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGES = (
    "opcd-bench", "torch", "transformers", "tokenizers", "safetensors", "lm_eval", "textarena",
    "datasets", "numpy", "vllm", "peft",
)  # fmt: skip
VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG",
    "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "TOKENIZERS_PARALLELISM", "PYTHONHASHSEED",
)  # fmt: skip
# What numbers come from; a new plugin that git does not know yet makes the tree dirty too.
SOURCES = ("opcd_bench", "baselines", "tasks", "pyproject.toml")

ROUNDING = ("computing.", "device:", "machine.cpu:", "versions.")
"""What the names of such values begin with by which numbers are rounded otherwise."""
UNKNOWN = ("(absent)", "null")


def describe(
    model: Any = None, device: Any = None, computing: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The environment as JSON values; what cannot be known is null. Imports no torch, never fails.

    ``model``, ``device`` and ``computing`` (threads, batches: what moves last digits) are the
    caller's own words (JSON values) and are stored as given.
    """
    return {
        "machine": {
            "platform": platform.platform(),
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "usable_cores": _usable_cores(),
            "memory_gib": _memory_gib(),
        },
        "versions": {"python": platform.python_version()} | {p: _version(p) for p in PACKAGES},
        "device": device,
        **({} if computing is None else {"computing": dict(computing)}),
        "model": model,
        "git": commit(Path(__file__).resolve().parents[2]),
        "variables": {name: os.environ.get(name) for name in VARIABLES},
    }


def commit(root: Path) -> dict[str, Any]:
    """Commit and dirty flag of a source tree; null where ``root`` is none, or git is absent."""
    unknown: dict[str, Any] = {"commit": None, "dirty": None}
    if not (root / ".git").exists():
        return unknown
    sources = [name for name in SOURCES if (root / name).exists()]
    head = _git(root, "rev-parse", "HEAD")
    if head is None:
        return unknown
    changes = _git(root, "status", "--porcelain", "--", *sources)
    return {"commit": head.strip(), "dirty": None if changes is None else bool(changes.strip())}


def _git(root: Path, *words: str) -> str | None:
    # Without optional locks: reading the state must not stand in the way of somebody's commit.
    settings = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words],
            capture_output=True, text=True, timeout=20, env=settings, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.processor() or None


def _usable_cores() -> int | None:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(affinity(0)) if affinity else None


def _memory_gib() -> float | None:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
    return round(total / 2**30, 1)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line a leaf that differs: ``versions.torch: "2.12.0" -> "2.13.0"``; sorted by name."""
    old, new = _leaves(before), _leaves(after)
    return [
        f"{name}: {old.get(name, '(absent)')} -> {new.get(name, '(absent)')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def rounded_otherwise(changed: Sequence[str]) -> list[str]:
    """Those of `differences` that move last digits; what was unknown before is no change."""
    return [
        line
        for line in changed
        if line.startswith(ROUNDING) and line.partition(": ")[2].partition(" -> ")[0] not in UNKNOWN
    ]


def _leaves(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Every leaf by its dotted name, as canonical JSON."""
    found: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            found |= _leaves(item, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = json.dumps(item, sort_keys=True, ensure_ascii=False)
    return found
