"""The machine: whether other processes use it, and what a process's memory came to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MOST_BY_OTHERS = 0.05
"""Figures taken while others used a larger share of the CPU are not to be published."""


@dataclass(frozen=True)
class Look:
    """Clock ticks of all cores since boot: those that were there, those in use, and our own."""

    there: int
    used: int
    own: int


def look(pids: Iterable[int]) -> Look:
    """The ticks now; ``pids`` are this benchmark's processes."""
    first = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:]
    # guest time, the ninth and tenth, is part of user time
    user, nice, system, idle, waiting, *more = map(int, first[:8])
    used = user + nice + system + sum(more)
    return Look(used + idle + waiting, used, sum(map(_ticks, pids)))


def _ticks(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def by_others(before: Look, after: Look) -> float:
    """The share of all cores that other processes used between two looks."""
    others = (after.used - before.used) - (after.own - before.own)
    return max(0.0, others / max(1, after.there - before.there))


def load_average() -> float:
    """Over the last minute."""
    return os.getloadavg()[0]


def resident() -> int:
    """Bytes of this process in memory."""
    return _status("VmRSS")


def peak() -> int:
    """The most bytes of this process in memory, since it began or `forget_peak` was called."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Measure the peak from now on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
