"""Foreign code in a process of its own: where it hangs or ends, this process goes on."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from opcd_bench.runner import isolated; isolated.serve(*sys.argv[2:])"
)
_END = "end"
RAISED = "it raised KeyboardInterrupt"


class Lost(Exception):
    """The process said nothing for too long, or ended before it was done; the message says how."""


def said(
    function: str, arguments: Sequence[str], seconds: float, *, quiet: bool = False
) -> Iterator[Any]:
    """The JSON values that ``module:function`` yields for texts, in a new process.

    Raises Lost where it is silent for ``seconds``, or ends in between. What it prints goes to
    standard error, or nowhere (``quiet``). The process is gone when the iterator is.
    """
    reading, writing = os.pipe()
    words = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), str(writing), function]
    printed = subprocess.DEVNULL if quiet else 2
    with subprocess.Popen(
        [*words, *arguments],
        stdin=subprocess.PIPE,
        stdout=printed,
        stderr=printed,
        pass_fds=(writing,),
        start_new_session=True,  # ctrl-C is this process's, which ends the other
    ) as process:
        os.close(writing)
        try:
            for line in _lines(reading, seconds):
                if line == _END:
                    return
                yield line
            raise Lost(_ending(process))
        finally:
            os.close(reading)
            _end(process)


def _lines(reading: int, seconds: float) -> Iterator[Any]:
    """The lines that a pipe gives, until its writer has closed it; Lost after silence."""
    held, until = b"", time.monotonic() + seconds
    while True:
        if not select.select([reading], [], [], max(0.0, until - time.monotonic()))[0]:
            raise Lost(f"nothing happened for {seconds:g} s")
        part = os.read(reading, 1 << 16)
        if not part:
            return
        held += part
        *whole, held = held.split(b"\n")
        for line in map(json.loads, whole):
            if line == [RAISED]:
                raise Lost(RAISED)
            yield line
            until = time.monotonic() + seconds


def _ending(process: subprocess.Popen[bytes]) -> str:
    """How a process that is about to end did so."""
    try:
        code = process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return "its process closed the files that it was given"
    if code < 0:
        return f"its process ended ({signal.Signals(-code).name})"
    return f"its process ended (exit code {code})"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        process.kill()


# --- in the other process ----------------------------------------------------------------------


def serve(writing: str, function: str, *arguments: str) -> NoReturn:
    """Write what ``function`` yields, line by line, and end, whatever threads still run."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, _, name = function.partition(":")
    found = getattr(importlib.import_module(module), name)
    with os.fdopen(int(writing), "w", encoding="utf-8") as out:
        try:
            for value in found(*arguments):
                print(json.dumps(value), file=out, flush=True)
        except KeyboardInterrupt:  # nobody has typed ctrl-C here
            print(json.dumps([RAISED]), file=out, flush=True)
        print(json.dumps(_END), file=out, flush=True)
    os._exit(0)


def _end_with_parent() -> None:
    """End when whoever started this is gone: the pipe to standard input closes with it."""
    with contextlib.suppress(OSError):
        os.read(0, 1)
    os._exit(1)
