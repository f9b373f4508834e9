"""Checkpoints: folders that exist only when whole, with a manifest that shows damage."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from opcd_bench.errors import StoreError
from opcd_bench.store.files import (
    Checksum,
    Problem,
    checksum,
    checksums,
    compare,
    disk_is_full,
    explained,
    removal,
    remove_folder,
    remove_temporaries,
    sync,
    temporary_beside,
    write_atomic,
)
from opcd_bench.store.jsonl import object_text, read_object

MANIFEST, MODEL = "manifest.json", "model"
"""A checkpoint's list of files, and its folder that opens with transformers as it is."""


@dataclass(frozen=True)
class Checkpoint:
    """What a run can be resumed from: the state after ``step`` optimiser steps."""

    step: int
    path: Path


def folder_name(step: int) -> str:
    """``step_000050``: names sort as steps do."""
    if step < 0:
        raise ValueError(f"a step is 0 or more, not {step}")
    return f"step_{step:06d}"


def found(folder: Path) -> list[Checkpoint]:
    """The whole checkpoints in ``folder`` (those with a manifest), by step."""
    steps = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = re.fullmatch(r"step_(\d{6,})", path.name)
        if match and (path / MANIFEST).is_file():
            steps.append(Checkpoint(int(match[1]), path))
    return sorted(steps, key=lambda checkpoint: checkpoint.step)


def remove_unfinished(folder: Path) -> list[str]:
    """Remove checkpoints that were being written when the process was killed; their names."""
    removed = remove_temporaries(folder)
    whole = {checkpoint.path for checkpoint in found(folder)}
    paths = folder.glob("step_*") if folder.is_dir() else ()
    unfinished = sorted(path for path in paths if path.is_dir() and path not in whole)
    for path in unfinished:
        remove_folder(path)
    return [*removed, *(path.name for path in unfinished)]


@contextmanager
def writing(folder: Path, step: int, check: Callable[[], object] = lambda: None) -> Iterator[Path]:
    """A folder to fill; on success it becomes the checkpoint of ``step``, else it is removed.

    Files are synced, then the manifest with their checksums is written, then the folder gets its
    name: a kill at any moment leaves a whole checkpoint or none. ``check`` is called before the
    last and may refuse it by raising. StoreError when the disk is full.
    """
    final = folder / folder_name(step)
    temporary = temporary_beside(final)
    with explained(final):
        folder.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    try:
        with explained(final, only_disk=True):
            yield temporary
            _finish(temporary, step)
            check()
            if final.exists():
                remove_folder(final)
            os.rename(temporary, final)
            sync(folder)
    except BaseException as error:
        full = disk_is_full(folder)
        if temporary.exists():
            remove_folder(temporary)
        if full and not isinstance(error, StoreError):
            raise StoreError(
                f"{final}: the disk is full ({error}); earlier checkpoints are untouched. Free "
                "some space and type the same command again to continue"
            ) from error
        raise


def _finish(folder: Path, step: int) -> None:
    files = checksums(folder, skip=lambda name: name == MANIFEST)
    for name in files:
        sync(folder / name)
    for below in [path for path in folder.rglob("*") if path.is_dir()]:
        sync(below)
    listing = {name: asdict(file) for name, file in files.items()}
    write_atomic(folder / MANIFEST, object_text({"step": step, "files": listing}))


def problems(path: Path) -> list[Problem]:
    """What differs between a checkpoint and its manifest."""
    try:
        manifest = read_object(path / MANIFEST)
        listed = read_listing(manifest, path / MANIFEST)
    except StoreError:
        return [Problem(path / MANIFEST, "changed", "changed: not a manifest", damage=True)]
    return compare(path, listed, checksums(path, skip=lambda name: name == MANIFEST))


def read_listing(manifest: dict[str, Any], where: Path) -> dict[str, Checksum]:
    """The checksums under ``files``; StoreError where the manifest does not have its shape."""
    try:
        return {
            name: Checksum(str(file["sha256"]), int(file["size"]))
            for name, file in manifest["files"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StoreError(
            f"{where}: damaged; its list of files cannot be read ({error!r})"
        ) from None


def checked(checkpoint: Checkpoint, *, sealed: bool = False) -> Checkpoint:
    """The checkpoint itself, if every file is as its manifest says; else StoreError.

    ``sealed``: its run is finished, so that none goes on from an earlier one.
    """
    wrong = problems(checkpoint.path)
    if wrong:
        listing = "\n".join(f"  {problem}" for problem in wrong)
        earlier = [c.step for c in found(checkpoint.path.parent) if c.step < checkpoint.step]
        start = f"from step {earlier[-1]}" if earlier else "from the beginning"
        again, gone = f"continue {start}", checkpoint.path
        if sealed:
            again, gone = "run its run again", checkpoint.path.parents[1]
        raise StoreError(
            f"corrupt checkpoint {checkpoint.path}:\n{listing}\nPut the files back from a copy, "
            f"or {again}: type {removal(gone)} and then the same command again"
        )
    return checkpoint


def manifest_hash(checkpoint: Checkpoint) -> str:
    """SHA-256 of the manifest, which stands for all the checkpoint's files."""
    return checksum(checkpoint.path / MANIFEST).sha256
