"""The hash of a model folder's weights, however they are divided into files; without torch."""

from __future__ import annotations

import functools
import hashlib
import json
import mmap
from pathlib import Path
from typing import Any

from opcd_bench.errors import ModelError

_PICKLES = (".bin", ".pt", ".pth")
_CHUNK = 1 << 24


def weights_digest(folder: Path) -> str:
    """SHA-256 over name, type, shape and bytes of all stored tensors, in order of names.

    A folder of pickles is known by the bytes of its files, which are not opened. Raises ModelError
    where there are no weights, or where they are damaged.
    """
    files = sorted(folder.glob("*.safetensors"))
    files = files or sorted(p for p in folder.iterdir() if p.suffix in _PICKLES)
    if not files:
        raise ModelError(
            f"model folder {folder} has no *.safetensors; its weights are missing: copy "
            "model.safetensors into it"
        )
    states = [(path, path.stat()) for path in files]
    return _digest(tuple((path, state.st_size, state.st_mtime_ns) for path, state in states))


@functools.cache
def _digest(files: tuple[tuple[Path, int, int], ...]) -> str:
    """The digest of files as they were last changed: read once a process."""
    digest = hashlib.sha256()
    if files[0][0].suffix != ".safetensors":
        for path, _, _ in files:
            with path.open("rb") as file:
                digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n"
                              .encode())  # fmt: skip
        return digest.hexdigest()
    tensors = {name: (path, about) for path, _, _ in files for name, about in _header(path).items()}
    for name, (path, about) in sorted(tensors.items()):
        digest.update(f"{name} {about['dtype']} {tuple(about['shape'])}\n".encode())
        begin, end = about["at"]
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
            for start in range(begin, end, _CHUNK):
                digest.update(raw[start : min(start + _CHUNK, end)])
    return digest.hexdigest()


def _header(path: Path) -> dict[str, dict[str, Any]]:
    """Tensor name -> ``dtype``, ``shape`` and ``at``, the place of its bytes in the file."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError("its header is longer than the file")
            listed = json.loads(file.read(length))
        listed.pop("__metadata__", None)
        for about in listed.values():
            begin, end = about.pop("data_offsets")
            about["at"] = (8 + length + begin, 8 + length + end)
            about["dtype"], about["shape"]
            if not 0 <= begin <= end <= size - 8 - length:
                raise ValueError("it is cut off")
        return dict(listed)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path}: these weights are damaged ({error}). Copy or download the file again"
        ) from error
