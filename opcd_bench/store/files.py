"""Files and folders that a crash cannot leave half written, and the checksums that show damage."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from opcd_bench.errors import StoreError

LOCK = ".lock"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOT_A_FOLDER = {errno.ENOTDIR, errno.EEXIST}


@contextmanager
def explained(path: Path, *, only_disk: bool = False) -> Iterator[None]:
    """Turn an OSError into a StoreError that says what to do about ``path``.

    ``only_disk``: a full disk or a forbidden folder alone; for blocks with a caller's code in them.
    """
    try:
        yield
    except OSError as error:
        if only_disk and error.errno not in _FULL | _FORBIDDEN:
            raise
        raise StoreError(_explanation(path, error)) from error


def _explanation(path: Path, error: OSError) -> str:
    if error.errno in _FULL:
        return (
            f"{path}: the disk is full; what was stored before is untouched. Free some space and "
            "type the same command again to continue, or give a folder on another disk with "
            "--output-dir"
        )
    if error.errno in _FORBIDDEN:
        return (
            f"{path}: cannot be written ({error.strerror}). Give a folder that you may write to "
            "with --output-dir, or change this one's permissions"
        )
    if error.errno in _NOT_A_FOLDER:
        return (
            f"{path}: cannot be written, because a file is where a folder is needed "
            f"({error.filename}). Move that file away, or give another folder with --output-dir"
        )
    return f"{path}: {error.strerror or error}"


def disk_is_full(path: Path) -> bool:
    """Whether less than 64 KiB are left: torch and safetensors hide the error of a full disk."""
    return shutil.disk_usage(path).free < 1 << 16


def write_atomic(path: Path, data: bytes | str) -> None:
    """Put ``data`` at ``path``, wholly or not at all; StoreError where it cannot be written.

    Written to a temporary file beside it, synced, renamed; missing parent folders are made.
    """
    payload = data.encode() if isinstance(data, str) else data
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                write_all(handle, payload)
                os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def write_all(handle: int, payload: bytes) -> None:
    """Write every byte: one call, unless the system takes less (the next one then says why)."""
    view = memoryview(payload)
    while view:
        view = view[os.write(handle, view) :]


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's names, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems know no sync of a folder
            raise
    finally:
        os.close(handle)


def is_temporary(name: str) -> bool:
    """Whether a name is that of a write that a crash may leave behind, or of a lock."""
    return name == LOCK or (name.startswith(".") and name.endswith(".tmp"))


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed writer left in ``folder`` (not below it). Hold its lock."""
    with explained(folder):
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name != LOCK and is_temporary(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove_folder(folder: Path) -> None:
    """Remove a folder so that a crash leaves it whole or gone: renamed first, then emptied."""
    doomed = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.tmp"
    with explained(folder):
        os.rename(folder, doomed)
        shutil.rmtree(doomed)


def removal(path: Path) -> str:
    """What to type to remove a folder."""
    return f"rm -r {shlex.quote(str(path))}"


class Lock:
    """An exclusive lock on a file, which the system takes back when the process dies."""

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        """Take it; with ``wait`` queue for it, else StoreError names the process that has it."""
        self.path = path
        while True:
            with explained(path):
                self._file = open(path, "a+b", buffering=0)
            try:
                with explained(path):
                    self._take(wait)
            except BaseException:
                self._file.close()
                raise
            if self._still_named():
                break
            self._file.close()  # its holder removed the file on leaving; take the new one
        with explained(path):
            os.ftruncate(self._file.fileno(), 0)
            os.write(self._file.fileno(), str(os.getpid()).encode())

    def _take(self, wait: bool) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            pid = self.path.read_text() if self.path.exists() else ""
            who = f"process {pid}" if pid else "another process"
            stop = f", or stop it with: kill {pid}" if pid else ""
            raise StoreError(
                f"{self.path.parent}: {who} is writing this folder now; wait for it{stop}"
            ) from None

    def _still_named(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Give it back and remove the file; a second call does nothing."""
        if not self._file.closed:
            self.path.unlink(missing_ok=True)
            self._file.close()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(frozen=True)
class Checksum:
    """SHA-256 (hex) and size (bytes) of a file."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Problem:
    """One finding of ``verify``.

    ``damage`` says whether stored numbers can no longer be trusted; the others are remarks
    (a run that is not finished, a checkpoint that was not kept).
    """

    path: Path
    kind: Literal["changed", "missing", "extra", "unsealed", "failed", "no checkpoint"]
    what: str
    damage: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def checksum(path: Path) -> Checksum:
    """The checksum of one file."""
    with explained(path), path.open("rb") as file:
        return Checksum(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def checksums(folder: Path, skip: Callable[[str], bool]) -> dict[str, Checksum]:
    """The checksums of all files below ``folder`` by relative name; temporaries left out."""
    found: dict[str, Checksum] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not skip(name) and not any(map(is_temporary, name.split("/"))):
            found[name] = checksum(path)
    return found


def compare(
    folder: Path, listed: Mapping[str, Checksum], found: Mapping[str, Checksum]
) -> list[Problem]:
    """What differs between the files that a manifest lists and those that are there."""
    problems = []
    for name, expected in listed.items():
        if name not in found:
            problems.append(Problem(folder / name, "missing", "missing", damage=True))
        elif found[name].size != expected.size:
            what = f"changed: {found[name].size} bytes, {expected.size} when it was written"
            problems.append(Problem(folder / name, "changed", what, damage=True))
        elif found[name] != expected:
            what = f"changed: SHA-256 {found[name].sha256[:12]}…, was {expected.sha256[:12]}…"
            problems.append(Problem(folder / name, "changed", what, damage=True))
    for name in found:
        if name not in listed:
            what = "extra: it was not there when the manifest was written"
            problems.append(Problem(folder / name, "extra", what, damage=True))
    return problems
