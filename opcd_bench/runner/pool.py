"""Worker processes that run cells: they share the threads, and go when their parent does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from opcd_bench.config.suite import Suite
from opcd_bench.errors import WorkerDied

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: ``problem`` is None, or what went wrong in one line.

    ``warnings``: what was to be said while it ran in a process that says nothing.
    """

    cell: str
    problem: str | None
    warnings: tuple[str, ...] = ()


@contextmanager
def worker_pool(
    suite: Suite, jobs: int, start: Callable[[Suite], None]
) -> Iterator[ProcessPoolExecutor]:
    """``jobs`` processes that share the threads; each calls ``start``, with the suite that says so.

    Left by an error, it waits for what runs, and for nothing more; left by ctrl-C, for nothing.
    Raises WorkerDied where a process was killed.
    """
    threads = suite.threads or max(1, (os.cpu_count() or 1) // jobs)
    shared = suite.model_copy(update={"threads": threads})
    others = set(multiprocessing.active_children())
    with worker_environment(threads):
        pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), start, (shared,))
        try:
            yield pool
        except BrokenProcessPool:
            raise WorkerDied(
                "a worker process ended before its work did: killed from outside, perhaps for want "
                "of memory, unless its own error stands above. Nothing is lost: type the same "
                "command again, with fewer --jobs if it happens again"
            ) from None
        except (KeyboardInterrupt, GeneratorExit):
            # Sent to this process alone, a signal ends the workers too: their runs are resumable.
            for worker in set(multiprocessing.active_children()) - others:
                worker.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def ended_by_turns(
    pool: ProcessPoolExecutor, jobs: int, work: Callable[[T], Outcome], todo: Iterable[T]
) -> Iterator[list[Outcome]]:
    """What ``work`` says of all that is to be done, as it ends; every two seconds, if only []."""
    waiting, running = deque(todo), set[Future[Outcome]]()
    while waiting or running:
        # No more than run at once: a pool's own queue cannot be cancelled, and an engine may die.
        while waiting and len(running) < jobs:
            with _signals_held():
                running.add(pool.submit(work, waiting.popleft()))
        ended, running = wait(running, timeout=2.0, return_when=FIRST_COMPLETED)
        yield [future.result() for future in ended]


@contextmanager
def _signals_held() -> Iterator[None]:
    """Ctrl-C waits, also in a process that starts meanwhile, until that serves its parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def worker_environment(threads: int) -> Iterator[None]:
    """The environment that worker processes inherit: OpenMP pools that fit the machine.

    Python's own helper process is not to list the semaphores of workers that were ended.
    """
    quiet = [*filter(None, [os.environ.get("PYTHONWARNINGS")]), "ignore:resource_tracker"]
    ours = {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": ",".join(quiet)}
    before = {key: os.environ.get(key) for key in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def serve_parent() -> None:
    """Make this process a worker, which goes when its parent does or when ctrl-C is typed."""
    # Ctrl-C reaches every process of the terminal: a worker just goes, its run is resumable.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    sys.stdout = sys.stderr  # what a plugin prints is no part of the command's output
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the run that it serves is gone: killed, it can send no word of it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
