"""How a command ends by ctrl-C, SIGTERM or SIGHUP: what it says, and its exit code."""

from __future__ import annotations

import atexit
import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer

from opcd_bench.errors import UserError
from opcd_bench.printable import printable

ENDED = {
    signal.SIGINT: "Interrupted",
    signal.SIGTERM: "Terminated",
    signal.SIGHUP: "Hung up",
}
"""What each signal that ends a command is called; its exit code is 128 and the signal's number."""

_received: list[int] = []
"""The signals that the command of this process has had so far."""


@contextmanager
def stoppable() -> Iterator[None]:
    """The first signal of `ENDED` raises KeyboardInterrupt, so that what runs ends in order.

    The second is only answered, and the third ends the process. A signal that whoever started this
    process ignores (nohup) stays so. Outside the main thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    before = {number: signal.getsignal(number) for number in ENDED}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()


def _on_signal(number: int, _: FrameType | None) -> None:
    _received.append(number)
    if len(_received) == 1:
        raise KeyboardInterrupt
    if len(_received) > 2:
        os._exit(code())
    with contextlib.suppress(OSError):
        os.write(2, b"\nStopping; once more leaves at once.\n")


def code() -> int:
    """The exit code of a command that a signal has ended."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def leave() -> NoReturn:
    """End the process as exit does, but wait for no thread: one may wait for a server."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code())


@contextmanager
def still_a_signal() -> Iterator[None]:
    """An error after a signal is that signal: libraries turn KeyboardInterrupt into errors.

    A message to the user, and an end with an exit code, stay what they are.
    """
    try:
        yield
    except (UserError, typer.Exit):
        raise
    except Exception as error:
        if not _received:
            raise
        raise KeyboardInterrupt from error


@contextmanager
def interruptible(context: typer.Context, kept: str, without: Sequence[str] = ()) -> Iterator[None]:
    """A signal says what is ``kept`` and what to type to go on, and leaves with its exit code.

    ``without``: words of the command that would begin it anew.
    """
    try:
        with still_a_signal():
            yield
    except KeyboardInterrupt:
        typed = context.obj if isinstance(context.obj, tuple) else tuple(sys.argv[1:])
        again = shlex.join(["opcd-bench", *(word for word in typed if word not in without)])
        say(f"{kept}; to continue, type the same command again:\n  {printable(again)}")
        raise typer.Exit(code()) from None


def say(what: str = "") -> None:
    """Which signal ended the command, and ``what``; a terminal that is gone reads neither."""
    word = ENDED[signal.Signals(_received[0])] if _received else "Interrupted"
    with contextlib.suppress(OSError):
        print(f"\n{word}.{f' {what}' if what else ''}", file=sys.stderr)
