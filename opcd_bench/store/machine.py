"""Which process on which machine this is, whether another one has ended, and a steady clock."""

from __future__ import annotations

import hashlib
import os
import socket
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process, as it can be told from every other one that ever sees the same folder.

    ``boot`` changes when the machine starts again, ``namespace`` is a container's own, ``start``
    (clock ticks since the boot) tells apart two processes that had one number.
    What the system does not tell (no Linux) is None.
    """

    host: str
    boot: str | None
    namespace: str | None
    pid: int
    start: int | None

    @property
    def where(self) -> dict[str, str | None]:
        """The place in which its number means this process."""
        return {"host": self.host, "boot": self.boot, "namespace": self.namespace}

    @property
    def is_seen(self) -> bool:
        """Whether its number can be looked up from here."""
        return self.boot is not None and self.where == here()

    @property
    def has_ended(self) -> bool:
        """Whether it surely has; False of one that cannot be seen from here."""
        return self.is_seen and not _runs(self.pid, self.start)

    def to_json(self) -> dict[str, str | int | None]:
        """As a lease's file has it."""
        return asdict(self)


def here() -> dict[str, str | None]:
    """The machine, since when it runs, and which processes are seen from here: a container's own.

    Without Linux the network card's number stands for the boot, and the namespace is None.
    """
    host = socket.gethostname()
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return {"host": host, "boot": boot, "namespace": os.readlink("/proc/self/ns/pid")}
    except OSError:
        return {"host": host, "boot": f"node {uuid.getnode():012x}", "namespace": None}


def this() -> Process:
    """The process that asks."""
    place, pid = here(), os.getpid()
    return Process(str(place["host"]), place["boot"], place["namespace"], pid, _stat(pid)[1])


def key() -> str:
    """Four hexadecimal digits that stand for this machine since its boot."""
    place = here()
    return hashlib.sha256(f"{place['host']} {place['boot']}".encode()).hexdigest()[:4]


def seconds() -> float:
    """A clock that nobody sets, and that goes on while the machine is suspended (on Linux)."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def _runs(pid: int, start: int | None) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        pass
    state, began = _stat(pid)
    another = None not in (start, began) and began != start
    return not another and state not in ("Z", "X")  # killed, but its parent has not looked yet


def _stat(pid: int) -> tuple[str | None, int | None]:
    """A process's state and its start; None where the system does not tell."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None, None
    fields = told.rpartition(")")[2].split()
    return fields[0], int(fields[19])
