"""Starts a cell's processes by torchrun, each with this very command; says how they ended."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from opcd_bench.cli import interrupt, processes
from opcd_bench.config.suite import Suite
from opcd_bench.printable import printable

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure


def start(context: typer.Context, suite: Suite) -> NoReturn:
    """Start the suite's processes by torchrun, wait for them, and end as they did."""
    import torch
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    processes.refuse_too_few_gpus(suite, suite.processes)
    if suite.device == "cpu" or not torch.cuda.is_available():
        print(
            f"opcd-bench: no GPU is used: {suite.processes} processes share this machine's "
            "processors (gloo)",
            file=sys.stderr,
        )
    typed = context.obj if isinstance(context.obj, tuple) else tuple(sys.argv[1:])
    os.environ[processes.STARTED_HERE] = str(suite.processes)
    threads = suite.threads or max(1, (os.cpu_count() or 1) // suite.processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    logging.disable(logging.CRITICAL)  # torchrun's own account of what is said below
    words = ["--standalone", f"--nproc-per-node={suite.processes}", "-m", "opcd_bench", *typed]
    starter: Any = torchrun  # without types
    try:
        starter.run(starter.parse_args(words))
    except SignalException as stopped:
        word = interrupt.ENDED.get(signal.Signals(stopped.sigval), "Interrupted")
        _say(f"\n{word}. {_to_go_on(typed)}")
        raise typer.Exit(128 + int(stopped.sigval)) from None
    except ChildFailedError as failed:
        raise typer.Exit(_told(list(failed.failures.values()), suite, typed)) from None
    raise typer.Exit(0)


def _told(failures: Sequence[ProcessFailure], suite: Suite, typed: Sequence[str]) -> int:
    """The exit code of processes that have failed, once it is said what no process has said."""
    after = (processes.LOST_A_PEER, -signal.SIGTERM, 128 + signal.SIGTERM)
    first = min(failures, key=lambda one: (one.exitcode in after, one.timestamp))
    code = int(first.exitcode)
    if code >= 0:
        if first.local_rank > 0:
            _say(f"opcd-bench: process {first.local_rank} of {suite.processes} failed; its error "
                 f"stands above. {_to_go_on(typed)}")  # fmt: skip
        return code if first.local_rank == 0 else 2
    _say(
        f"opcd-bench: process {first.local_rank} of {suite.processes} was ended by "
        f"{signal.Signals(-code).name}, perhaps for want of memory, and the others with it. "
        f"{_to_go_on(typed)}"
    )
    return 2


def _to_go_on(typed: Sequence[str]) -> str:
    again = shlex.join(["opcd-bench", *typed])
    return f"Nothing is lost; to continue, type the same command again:\n  {printable(again)}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
