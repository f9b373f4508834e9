"""What a lease's file says: whom it names, and how long ago that process gave a sign of life."""

from __future__ import annotations

import datetime
import errno
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from opcd_bench.store import machine
from opcd_bench.store.files import explained, file_system_time, temporary_beside, write_all
from opcd_bench.store.machine import Process

_BEGIN = '{"beat": "'
"""What the text begins with: ten digits follow, which the holder writes over at every beat."""

_MOST = 4096
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


@dataclass(frozen=True)
class Named:
    """What was read of a lease's file; None is what it does not say, or says in another way."""

    raw: bytes
    token: str | None = None
    process: Process | None = None
    taken: str | None = None


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, for people.

    ``taken`` is the time at which it was taken, by its holder's clock; ``quiet`` the seconds since
    its last sign of life; ``ended`` whether the process is seen from here, and has ended.
    """

    host: str
    pid: int
    taken: str | None
    quiet: float
    ended: bool


def holder(path: Path, now: float | None = None) -> Holder | None:
    """Who holds the lease at ``path``, which is only read; None where nobody that it names does.

    ``now``: the time by the clock of the file system (`files.file_system_time`), for whoever asks
    of many leases. By default it is asked with a file that is made for a moment; where none can be
    made, this machine's clock is taken.
    """
    with explained(path):
        there = read(path)
        if there is None or there.process is None:
            return None
        try:
            last = path.stat().st_mtime
        except FileNotFoundError:
            return None
        if now is None:
            try:
                now = file_system_time(path.parent)
            except OSError:
                now = time.time()
    one = there.process
    return Holder(one.host, one.pid, there.taken, max(0.0, now - last), one.has_ended)


def text(token: str, beat: int = 0) -> bytes:
    """The text of a lease that this process takes now."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    said = {"token": token, **machine.this().to_json(), "taken": now}
    return f'{_BEGIN}{beat % 10**10:010d}", {json.dumps(said)[1:]}\n'.encode()


def read(path: Path) -> Named | None:
    """What the file says now: opened anew, as a network file system promises the latest then."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        raw = os.read(handle, _MOST)
    except OSError as error:
        if error.errno != errno.ESTALE:  # renamed or removed by another host meanwhile
            raise
        return Named(b"")
    finally:
        os.close(handle)
    return parse(raw)


def parse(raw: bytes) -> Named:
    """What a text says; of one that is not ours, only the text."""
    try:
        told = json.loads(raw)
        place = {name: told[name] for name in ("host", "boot", "namespace")}
        pid, start = told["pid"], told.get("start")
        token, taken = told.get("token"), told.get("taken")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Named(raw)  # half written, or an older version's
    words = [place["host"], *(v for v in (*place.values(), token, taken) if v is not None)]
    if not all(isinstance(word, str) for word in words):
        return Named(raw)
    if type(pid) is not int or pid <= 0 or not (start is None or type(start) is int):
        return Named(raw)
    return Named(raw, token, Process(**place, pid=pid, start=start), taken)


def put(path: Path, data: bytes) -> bool:
    """Create the file with this text, unless there is one: True where this call did.

    Linked into its place whole, which is exclusive on NFS too. Where the file system has no links
    (some of FUSE and SMB) it is created and then written: a kill between the two leaves an empty
    file, whose holder nobody knows, so that the next process waits before it takes it over; and it
    is as exclusive as that file system's ``O_EXCL``.
    """
    while True:
        temporary = temporary_beside(path)
        if not _created(temporary, data):
            continue
        try:
            os.link(temporary, path)
            return True
        except FileExistsError:
            # A server that answers twice says so of what it did at the first time.
            return (there := read(path)) is not None and there.raw == data
        except FileNotFoundError:
            continue  # somebody took the temporary for what a kill left: nothing holds it
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _created(path, data)
        finally:
            temporary.unlink(missing_ok=True)


def _created(path: Path, data: bytes) -> bool:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    try:
        write_all(handle, data)
    finally:
        os.close(handle)  # from here on a network file system's server has the text
    return True


def beat(path: Path, token: str, number: int) -> bool:
    """Give a sign of life; False where the file does not name ``token``: nothing is written then.

    Never into another's file: the one that is written is the one that was read.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        if parse(os.pread(handle, _MOST, 0)).token != token:
            return False
        os.pwrite(handle, f"{number % 10**10:010d}".encode(), len(_BEGIN))
        os.fsync(handle)
    finally:
        os.close(handle)
    return True


def words(there: Named) -> str:
    """Who holds a lease, and what can be done about it from here; no word that may be false."""
    one = there.process
    if one is None:
        return "another process is writing this folder now; wait for it"
    since = "" if there.taken is None else f", since {there.taken}"
    place = machine.here()
    if one.is_seen and not one.has_ended:
        own = "" if one.pid == 1 else f", or stop it with: kill {one.pid}"  # 1: the container's end
        return f"process {one.pid} is writing this folder now{since}; wait for it{own}"
    if one.is_seen:
        return "a process that another one started is writing this folder now; wait for it"
    if one.boot == place["boot"] and one.boot is not None:
        return (
            f"process {one.pid} of another container of this machine (its name there: {one.host}) "
            f"is writing this folder now{since}; wait for it, or stop it there"
        )
    return (
        f"process {one.pid} on {one.host} is writing this folder now{since}; wait for it, or stop "
        "it on that machine"
    )


def name_of(there: Named) -> str:
    """Who holds a lease, in few words."""
    if there.process is None:
        return "another process"
    return f"process {there.process.pid} on {there.process.host}"
