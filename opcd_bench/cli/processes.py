"""One process of several that compute a cell together: the first leads, the others follow."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from opcd_bench.cli import interrupt
from opcd_bench.config.suite import Suite
from opcd_bench.errors import ConfigError, PeerLost

STARTED_HERE = "OPCD_BENCH_PROCESSES"
"""Set for processes that this command has started by itself, which says how they ended."""

LOST_A_PEER = 75
"""How a process ends that another one has left alone: that one's end is what is told."""


def started_here() -> bool:
    """Whether `opcd-bench run` itself has started this process, and tells how it ended."""
    return STARTED_HERE in os.environ


def by_torchrun() -> int | None:
    """How many processes torchrun has started with this one; None where it has started none."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return size if size > 1 else None


def settings_of(words: Mapping[str, Any], assignments: Sequence[str] | None) -> dict[str, Any]:
    """Options of `run`, with as many processes as torchrun has started."""
    size, typed = by_torchrun(), words.get("processes")
    if size is None:
        return dict(words)
    if typed not in (None, size) or any(map(_sets, assignments or ())):
        raise ConfigError(
            f"torchrun has started {size} processes, and another number may be meant by what is "
            "typed; leave processes out, or torchrun: opcd-bench run --processes N starts it"
        )
    return {**words, "processes": size}


def _sets(assignment: str) -> bool:
    return assignment.partition("=")[0].strip() == "processes"


def refuse_too_few_gpus(suite: Suite, here: int) -> None:
    """Raise ConfigError where the processes of this machine would have to share GPUs."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if suite.device == "cuda" and not gpus:
        raise ConfigError("device = 'cuda': this machine has no CUDA device; type --device cpu")
    if suite.device != "cpu" and 0 < gpus < here:
        raise ConfigError(
            f"processes = {suite.processes} take a GPU each, and this machine has {gpus}; type "
            f"--processes {gpus}"
        )


@contextmanager
def joined(suite: Suite) -> Iterator[bool]:
    """Whether this process leads, within; the others follow it and have done all when it begins.

    A suite of one process has one leader, which meets nobody.
    """
    if suite.processes == 1:
        yield True
        return
    from opcd_bench.distillation.parallel import peers
    from opcd_bench.runner.parallel import crew

    refuse_too_few_gpus(suite, int(os.environ["LOCAL_WORLD_SIZE"]))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    here = peers.join(suite.device)
    if not here.first:
        _follow()
        yield False
        return
    try:
        yield True
    except KeyboardInterrupt:
        if started_here():  # who started this process says it
            _leave(interrupt.code())
        raise
    except PeerLost:
        if started_here():
            _leave(LOST_A_PEER)
        raise
    finally:
        crew.dismiss()
    peers.part()


def _follow() -> None:
    """Do as the first process says; signals are its to answer, and its end is this one's."""
    from opcd_bench.runner.parallel import crew, follower

    for number in interrupt.ENDED:
        signal.signal(number, signal.SIG_IGN)
    sys.stdout = open(os.devnull, "w", encoding="utf-8")
    try:
        follower.follow()
    except Exception as error:
        lost = isinstance(crew.lost(error, 0), PeerLost)
        if not lost:
            # What all processes meet the first one says, and ends them.
            for number in interrupt.ENDED:
                signal.signal(number, signal.SIG_DFL)
            time.sleep(3)
            traceback.print_exc()
        _leave(LOST_A_PEER if lost else 1)


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_parent(parent: int) -> None:
    """End this process when torchrun is gone: killed, it can send no word of it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
