"""Files and folders that a crash cannot leave half written, and the checksums that show damage."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from opcd_bench.errors import StoreError
from opcd_bench.store import machine

LOCK, NEXT = ".opcd-bench.lock", ".next"
"""The file of a folder's lease, and what is behind its name while it is taken over."""

MARK = ".opcd-bench.tmp"
UNCHANGED = 600.0
"""Seconds after which a write that cannot be seen from here, and stands still, counts as left."""

_TEMPORARY = re.compile(rf"\..+\.[0-9a-f]{{8}}{re.escape(MARK)}")
_TAIL = len(f".01234567{MARK}")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOT_A_FOLDER = {errno.ENOTDIR, errno.EEXIST}
# EBADF: NFS has such a lock of files alone that were opened for writing.
_NO_FLOCK = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}


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


def require_room(path: Path) -> None:
    """Raise the OSError that making ``path`` would end in; nothing is left behind.

    What is above it must be a folder that can be written to. It is tried: what the permissions say
    does not hold for root, nor in /proc.
    """
    above = path if path.exists() else path.parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(above))
    if not os.access(above, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(above))
    tried = above / f".room.{secrets.token_hex(4)}{MARK}"
    try:
        tried.mkdir()
    except FileNotFoundError:
        refused = f"nothing can be made in {above}"
        raise PermissionError(errno.EACCES, refused, str(above)) from None
    tried.rmdir()


def disk_is_full(path: Path) -> bool:
    """Whether less than 64 KiB are left: torch and safetensors hide the error of a full disk."""
    return shutil.disk_usage(path).free < 1 << 16


def write_atomic(path: Path, data: bytes | str) -> None:
    """Put ``data`` at ``path``, wholly or not at all; StoreError where it cannot be written.

    Written to a temporary file beside it, synced, renamed; missing parent folders are made.
    """
    payload = data.encode() if isinstance(data, str) else data
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, handle = _opened_beside(path)
        try:
            try:
                write_all(handle, payload)
                os.fsync(handle)
                os.replace(temporary, path)
            finally:
                os.close(handle)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def _opened_beside(path: Path) -> tuple[Path, int]:
    """A new file beside ``path``, locked, so that nobody takes it for one that a kill left."""
    while True:
        temporary = temporary_beside(path)
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        try:
            _flocked(handle)
            if os.fstat(handle).st_nlink:
                return temporary, handle
        except BaseException:
            os.close(handle)
            temporary.unlink(missing_ok=True)
            raise
        os.close(handle)  # removed between the two calls


def _flocked(handle: int) -> bool | None:
    """Whether no process of this machine holds a file; None where that cannot be told."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        return None
    return True


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


def temporary_beside(path: Path) -> Path:
    """A new name beside ``path`` for what is being written or removed; a crash may leave it.

    Only names like these, which nobody else gives (``.NAME.0a1b2c3d.opcd-bench.tmp``), are ever
    removed unasked. The first four of the eight digits are this machine's (`machine.key`).
    """
    while True:
        digits = machine.key() + secrets.token_hex(2)
        found = path.parent / f"{_temporary_stem(path)}.{digits}{MARK}"
        if not os.path.lexists(found):
            return found


def _temporary_stem(path: Path) -> str:
    # A name has 255 bytes at most, and a temporary one is some 30 longer than the file's.
    return "." + path.name.encode()[:200].decode(errors="ignore")


def remove_leftovers_of(path: Path) -> None:
    """Remove what killed writers of ``path`` left beside it; call it as its only writer."""
    stem = _temporary_stem(path)
    for name in _left_in(path.parent):
        if name[:-_TAIL] == stem:
            _removed(path.parent / name)


def _left_in(folder: Path) -> list[str]:
    names = sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if is_leftover(name)]


def is_leftover(name: str) -> bool:
    """Whether a name is that of a write of ours, which a crash left behind or which goes on."""
    return _TEMPORARY.fullmatch(name) is not None


def is_temporary(name: str) -> bool:
    """Whether a name is that of a write of ours, or of our lease."""
    return name in (LOCK, LOCK + NEXT) or is_leftover(name)


def remove_temporaries(folder: Path, *, folders: bool = True) -> list[str]:
    """Remove what a killed writer left in ``folder`` (not below it); the names.

    A file that somebody may be writing stays: one that a process of this machine holds, or that
    another machine's has written to in the last `UNCHANGED` seconds by the file system's clock.
    Hold the lease of whoever makes ``folders`` there.
    """
    with explained(folder):
        left = _left_in(folder)
        if not folders:
            left = [name for name in left if not (folder / name).is_dir()]
        return [name for name in left if _removed(folder / name)]


def _removed(path: Path) -> bool:
    """Remove what was left; False for a file that its writer may still hold."""
    if path.is_symlink() or not path.is_file():
        if path.is_dir() and not path.is_symlink():
            # Renamed, so that a writer on another machine puts nothing more into it.
            remove_folder(path, temporary_beside(path.with_name(path.name[1:-_TAIL])))
        else:
            path.unlink(missing_ok=True)
        return True
    own = path.name[-_TAIL:][1:5] == machine.key()
    try:
        handle = os.open(path, os.O_RDWR)
    except FileNotFoundError:  # its writer has just put it in its place
        return False
    except PermissionError:  # somebody else's
        return False
    try:
        free = _flocked(handle)
        if free is False or (not (own and free) and not _stands_still(handle, path.parent)):
            return False
        path.unlink(missing_ok=True)
        return True
    finally:
        os.close(handle)


def _stands_still(handle: int, folder: Path) -> bool:
    """Whether nothing has been written to an open file of ``folder`` for a long time."""
    return file_system_time(folder) - os.fstat(handle).st_mtime >= UNCHANGED


def file_system_time(folder: Path) -> float:
    """The time by the clock of the file system: that of a file made now. OSError where none can be.

    No machine's own clock has a part in it.
    """
    temporary, handle = _opened_beside(folder / "clock")
    try:
        return os.fstat(handle).st_mtime
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


def remove_folder(folder: Path, doomed: Path | None = None) -> None:
    """Remove a folder so that a crash leaves it whole or gone: renamed first, then emptied."""
    doomed = doomed or temporary_beside(folder)
    with explained(folder):
        os.rename(folder, doomed)
        shutil.rmtree(doomed)


def removal(path: Path) -> str:
    """What to type to remove a folder: say it only of one that we are sure to have made."""
    return f"rm -r {shlex.quote(str(path))}"


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
    kind: Literal[
        "changed", "missing", "extra", "unsealed", "failed", "no checkpoint", "left over", "no list"
    ]
    what: str
    damage: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


def checksum(path: Path) -> Checksum:
    """The checksum of one file."""
    with explained(path), path.open("rb") as file:
        return Checksum(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


LINK = Checksum("a symbolic link, not a file", -1)
"""What stands for the checksum of a link: it holds nothing itself, and may point anywhere."""


def checksums(folder: Path, skip: Callable[[str], bool]) -> dict[str, Checksum]:
    """The checksums of all files below ``folder`` by relative name; our temporaries left out.

    A symbolic link is not followed: it is `LINK`, of a file or of a folder.
    """
    found: dict[str, Checksum] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if skip(name) or any(map(is_temporary, name.split("/"))):
            continue
        found |= found_at(folder, name)
    return found


def found_at(folder: Path, name: str) -> dict[str, Checksum]:
    """`checksums` of one file; {} where there is none."""
    path = folder / name
    if path.is_symlink():
        return {name: LINK}
    return {name: checksum(path)} if path.is_file() else {}


def leftovers(folder: Path) -> list[Problem]:
    """What killed writers left at ``folder`` and below, as remarks of ``verify``."""
    what = "left over from a kill; the next run of the suite removes it"
    return [
        Problem(path, "left over", what, damage=False)
        for path in sorted(folder.rglob(f".*{MARK}"))
        if is_leftover(path.name)
    ]


def compare(
    folder: Path, listed: Mapping[str, Checksum], found: Mapping[str, Checksum]
) -> list[Problem]:
    """What differs between the files that a manifest lists and those that are there."""
    problems = []
    for name, expected in listed.items():
        if name not in found:
            problems.append(Problem(folder / name, "missing", "missing", damage=True))
        elif found[name] == LINK:
            what = "changed: a symbolic link in place of the file"
            problems.append(Problem(folder / name, "changed", what, damage=True))
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
