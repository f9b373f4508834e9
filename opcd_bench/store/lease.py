"""An exclusive lease on a folder, which holds on network file systems and between machines."""

from __future__ import annotations

import os
import random
import secrets
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opcd_bench import preemption
from opcd_bench.errors import FolderBusy, LeaseLost
from opcd_bench.printable import printable
from opcd_bench.store import heartbeat, lease_file, machine
from opcd_bench.store.files import NEXT, explained, temporary_beside
from opcd_bench.store.lease_file import Holder, Named

STALE = 60.0
"""Seconds without a sign of life after which a lease may be taken over."""

SAID_AFTER = 2.0
"""Seconds of waiting after which it is said for whom."""

SHORTEST, LONGEST = 0.02, 1.0
"""Seconds between two looks at a lease that somebody else holds."""


class Lease:
    """The right to write a folder: whoever its file names has it, as it is read anew.

    The file is made exclusively and names a process. `heartbeat` writes a counter into it, and a
    process that waits for it judges by its own clock: the same text for `STALE` seconds is that of
    a process that is gone, or stopped. A process of this machine that has ended is seen at once.
    Whoever takes a lease over makes a second file beside it, exclusively (``NEXT``), looks again,
    and renames it over the first. A holder that was away itself needs that second file, to go on.

    A lease keeps out nobody by force. A process that was stopped finds out by ``check``, which
    belongs before every write.
    """

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        """Take it; with ``wait`` queue for it, else FolderBusy names the process that has it.

        Where that may be dead, this waits up to `STALE` seconds to find out, and says so.
        """
        self.path, self._next = path, path.with_name(path.name + NEXT)
        self._pid, self._token = os.getpid(), secrets.token_hex(8)
        self._one = threading.Lock()  # a sign of life at a time
        self._beats, self._last = 0, machine.seconds()
        self._lost: str | None = None
        self._next_seen = _Watch()
        with explained(path):
            self._take(wait)
        # Forgotten without `release`, it is given back all the same.
        self._forgotten = weakref.finalize(self, _given_back, path, self._token, self._pid)
        heartbeat.begin(self)

    # Taking -------------------------------------------------------------------------------------

    def _take(self, wait: bool) -> None:
        seen, queue = _Watch(), _Queue(self.path, self._token)
        while True:
            self._last = machine.seconds()  # before anybody can see the file
            there = lease_file.read(self.path)
            if there is None:
                if self._put(self.path):
                    self._remove_stale_next()
                    return
                continue
            if seen.is_stale(there):
                if self._taken_over(there):
                    return
            elif not wait and (seen.moved or seen.lives_here):
                raise FolderBusy(f"{self.path.parent}: {lease_file.words(there)}")
            queue.wait(there, seen)

    def _put(self, path: Path) -> bool:
        return lease_file.put(path, lease_file.text(self._token))

    def _names_us(self) -> bool:
        there = lease_file.read(self.path)
        return there is not None and there.token == self._token

    def _taken_over(self, stale: Named) -> bool:
        """Put ourselves in the place of a stale holder; False where somebody else did, or does."""
        with self._next_held() as held:
            now = lease_file.read(self.path) if held else None
            if now is not None and now.raw == stale.raw:
                try:
                    os.replace(self._next, self.path)
                except FileNotFoundError:
                    pass  # this process was stopped here, and others went on
        return self._names_us()

    @contextmanager
    def _next_held(self) -> Iterator[bool]:
        """Whether this process alone may now change whom the lease names."""
        if not self._put(self._next):
            self._remove_stale_next()
            yield False
            return
        try:
            yield True
        finally:
            there = lease_file.read(self._next)
            if there is not None and there.token == self._token:
                self._next.unlink(missing_ok=True)

    def _remove_stale_next(self) -> None:
        """Remove the second file of a process that died while it had it."""
        there = lease_file.read(self._next)
        if there is None or not self._next_seen.is_stale(there):
            return
        aside = temporary_beside(self._next)
        try:
            os.rename(self._next, aside)
        except FileNotFoundError:
            return
        moved = lease_file.read(aside)
        if moved is not None and moved.raw != there.raw:  # another one's, made since
            lease_file.put(self._next, moved.raw)
        aside.unlink(missing_ok=True)

    # Holding ------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise LeaseLost where another process has taken it over: call it before every write.

        And `preemption.Left` where this one is being taken off its node. What it costs is one
        small file opened and read. StoreError where that cannot be done.
        """
        preemption.refuse()
        if os.getpid() != self._pid or not self._forgotten.alive:
            raise RuntimeError(f"{self.path}: this process does not hold the lease")
        with explained(self.path):
            if self._lost is None and not self._is_ours():
                self._lost = self._why_lost()
        if self._lost is not None:
            raise LeaseLost(self._lost)

    def _is_ours(self) -> bool:
        """As far as a fresh look tells; a sign of life first where the last one is old."""
        pause = SHORTEST
        while self._is_late():
            if not self._names_us():
                return False
            if not self.beat():
                time.sleep(pause)  # somebody is just taking it over, or was
                pause = min(2 * pause, LONGEST)
        return self._names_us()

    def _is_late(self) -> bool:
        return machine.seconds() - self._last > STALE / 2

    def beat(self) -> bool:
        """Give a sign of life; False where that is not for this process to do now.

        One that was away for long first keeps out whoever is about to take the lease over.
        """
        with self._one:
            if not self._forgotten.alive:  # released
                return False
            if not self._is_late():
                return self._beat()
            with self._next_held() as held:
                return held and self._beat()

    def _beat(self) -> bool:
        now = machine.seconds()
        self._beats += 1
        if not lease_file.beat(self.path, self._token, self._beats):
            return False
        self._last = now
        return True

    def _why_lost(self) -> str:
        there = lease_file.read(self.path)
        if there is None or there.process is None:
            by = "another process has taken this folder over"
        else:
            when = "" if there.taken is None else f" at {there.taken}"
            by = f"{lease_file.name_of(there)} took this folder over{when}"
        return (
            f"{self.path.parent}: {by}, because this process did not answer for {STALE:g} s (it "
            "was stopped or suspended, or the network was away). Nothing more is written from "
            "here; the other process goes on from what is stored. Once it has ended, the same "
            "command again shows or continues what it left"
        )

    def release(self) -> None:
        """Give it back and remove the file, if it is still ours; a second call does nothing."""
        if not self._forgotten.alive or os.getpid() != self._pid:
            return
        heartbeat.end(self)
        with explained(self.path):
            ours = self._lost is None and self._is_ours()
            with self._one:  # a sign of life that is being given ends first, with its files
                self._forgotten.detach()
            if ours:
                self.path.unlink(missing_ok=True)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def living(path: Path, now: float | None = None) -> Holder | None:
    """Who holds the lease at ``path``, as far as can be seen: nobody that has ended or is quiet.

    ``now`` as of `lease_file.holder`.
    """
    held = lease_file.holder(path, now)
    return None if held is None or held.ended or held.quiet > STALE else held


def _given_back(path: Path, token: str, pid: int) -> None:
    """Remove the file of a lease that nobody holds any more in this process."""
    if os.getpid() != pid:
        return  # a forked child: it is its parent's
    there = lease_file.read(path)
    if there is not None and there.token == token:
        path.unlink(missing_ok=True)


class _Watch:
    """For how long a lease's file has said the same, by this process's own clock."""

    def __init__(self) -> None:
        self._raw: bytes | None = None
        self._at = machine.seconds()
        self.quiet = 0.0
        self.moved, self.lives_here = False, False

    def is_stale(self, there: Named) -> bool:
        """Whether its holder may be replaced, from all that was seen of it so far."""
        now = machine.seconds()
        if there.raw != self._raw:
            self.moved = self._raw is not None
            self._raw, self.quiet = there.raw, 0.0
        else:
            # If this process was stopped, so may the other have been: that time proves nothing.
            self.quiet += min(now - self._at, max(STALE / 10, 2 * LONGEST))
        self._at = now
        one = there.process
        if one is not None and one.has_ended:
            return True
        self.lives_here = one is not None and one.is_seen
        old = self.lives_here and there.token is None  # an older version's, which never beats
        return self.quiet >= STALE and not old


class _Queue:
    """The pauses of whoever waits for a lease, and the line that says for whom."""

    def __init__(self, path: Path, token: str) -> None:
        self._path, self._begun, self._said = path, machine.seconds(), False
        self._pause, self._raw = SHORTEST, b""
        self._random = random.Random(token)  # so that many do not look at one moment

    def wait(self, there: Named, seen: _Watch) -> None:
        """Sleep: longer from time to time while nothing changes."""
        if there.raw != self._raw:
            self._raw, self._pause = there.raw, SHORTEST
        if not self._said and machine.seconds() - self._begun >= SAID_AFTER:
            self._said = True
            self._say(there, seen)
        time.sleep(self._pause * (0.5 + self._random.random()))
        self._pause = min(1.5 * self._pause, LONGEST)

    def _say(self, there: Named, seen: _Watch) -> None:
        limit = f"; without a sign of life for {STALE:g} s, this process takes it over"
        if seen.lives_here and there.token is None:
            limit = ""
        text = f"waiting for {self._path.parent}: {lease_file.name_of(there)} has it{limit}"
        print(f"opcd-bench: {printable(text)}", file=sys.stderr, flush=True)
