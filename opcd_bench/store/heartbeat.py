"""One thread gives the signs of life of every lease that this process holds; none, none."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import Protocol

BEAT = 10.0
"""Seconds between two signs of life."""


class Beating(Protocol):
    """What a sign of life can be given of."""

    def beat(self) -> bool:
        """Give one; OSError where that is not possible now."""
        ...


class _Heart:
    """The thread, and what it beats for. A forked child has none of it: see `_heart`."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.changed = threading.Condition()
        # Weak: whoever forgets a lease gives it back by that.
        self.held: weakref.WeakSet[Beating] = weakref.WeakSet()
        self.thread: threading.Thread | None = None

    def run(self) -> None:
        """Beat until nothing is held any more."""
        while True:
            with self.changed:
                if self.held:
                    self.changed.wait(BEAT)
                now = list(self.held)
                if not now:
                    self.thread = None
                    return
            while now:  # emptied: what is forgotten meanwhile is not to be kept from it
                _beat(now.pop())


def _beat(one: Beating) -> None:
    # The network is away, say: whoever writes next is told.
    with contextlib.suppress(OSError):
        one.beat()


_HEART: dict[str, _Heart] = {}


def _heart() -> _Heart:
    """The one of this process: a fork copies the parent's, but not its thread."""
    if (there := _HEART.get("here")) is None or there.pid != os.getpid():
        there = _HEART["here"] = _Heart()
    return there


def begin(one: Beating) -> None:
    """Beat for it from now on."""
    heart = _heart()
    with heart.changed:
        heart.held.add(one)
        if heart.thread is None:
            heart.thread = threading.Thread(target=heart.run, name="opcd-bench lease", daemon=True)
            heart.thread.start()


def end(one: Beating) -> None:
    """Beat for it no more."""
    heart = _heart()
    with heart.changed:
        heart.held.discard(one)
        if not heart.held:
            heart.changed.notify()
