"""Worker processes of this machine: they share its threads and GPUs, and go with their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.queues import SimpleQueue
from tempfile import TemporaryDirectory

from opcd_bench.config.suite import Suite
from opcd_bench.errors import FolderBusy, WorkerDied
from opcd_bench.progress import BEATS
from opcd_bench.runner.cluster.jobs import End, Job, Outcome, Taken
from opcd_bench.runner.cluster.work import Work


class LocalPool:
    """Worker processes of this machine, which share its threads and divide its GPUs.

    Each loads what the suite's ``work`` needs, and does every job that it is given. A context
    manager: left by an error, it waits for what runs, and for nothing more; left by ctrl-C, for
    nothing. Raises WorkerDied where a process was killed.
    """

    def __init__(self, suite: Suite, jobs: int, work: Work) -> None:
        self.room: int | None = jobs
        self.work, self.suite = work, suite
        self._running: dict[Future[Outcome], Job] = {}

    def __enter__(self) -> LocalPool:
        assert self.room is not None
        threads = self.suite.threads or max(1, (os.cpu_count() or 1) // self.room)
        shared = self.suite.model_copy(update={"threads": threads})
        self._others = set(multiprocessing.active_children())
        self._said = TemporaryDirectory(prefix="opcd-bench-")
        self._environment = worker_environment(threads, self._said.name)
        self._environment.__enter__()
        spawn = multiprocessing.get_context("spawn")
        places = spawn.SimpleQueue()
        for place in range(self.room):
            places.put(place)
        given = (self.work, shared, places, gpus_of(self.suite.device, os.environ))
        self._pool = ProcessPoolExecutor(self.room, spawn, _begin, given)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None and issubclass(kind, (KeyboardInterrupt, GeneratorExit)):
                self.leave()
            self._pool.shutdown(cancel_futures=True)
        finally:
            self._environment.__exit__(None, None, None)
            self._said.cleanup()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Give out jobs; no more at a time than there is room for.

        A pool's own queue cannot be cancelled, and an engine may die.
        """
        for job in jobs:
            with _signals_held(), _died():
                self._running[self._pool.submit(_do, job)] = job

    def ended(self, seconds: float) -> list[tuple[Job, End]]:
        """Jobs that have ended."""
        done, _ = wait(self._running, timeout=seconds, return_when=FIRST_COMPLETED)
        with _died():
            return [(self._running.pop(future), _end(future)) for future in done]

    def leave(self) -> None:
        """End the workers: sent to this process alone, a signal does not reach them.

        Their runs are resumable.
        """
        for worker in set(multiprocessing.active_children()) - self._others:
            worker.terminate()


def _end(future: Future[Outcome]) -> End:
    """How a job ended; where another process was writing its folder, it has its turn again."""
    try:
        return future.result()
    except FolderBusy as busy:
        return Taken(str(busy))


@contextmanager
def _died() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise WorkerDied(
            "a worker process ended before its work did: killed from outside, perhaps for want "
            "of memory, unless its own error stands above. Nothing is lost: type the same "
            "command again, with fewer --jobs if it happens again"
        ) from None


def gpus_of(device: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs that workers divide, as CUDA_VISIBLE_DEVICES names them; none for other devices."""
    if device.split(":")[0] not in ("auto", "cuda") or ":" in device:
        return ()
    if (visible := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return tuple(filter(None, (one.strip() for one in visible.split(","))))
    import torch

    return tuple(map(str, range(torch.cuda.device_count())))


_SERVED: list[tuple[Work, Suite]] = []
"""Of a worker: what it does, and for which suite."""


def _begin(work: Work, suite: Suite, places: SimpleQueue[int], gpus: Sequence[str]) -> None:
    """In a new worker: take a GPU in turn, and begin."""
    place = places.get()
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[place % len(gpus)]
    _serve_parent()
    _SERVED[:] = [(work, suite)]
    work.held(suite)


def _do(job: Job) -> Outcome:
    ((work, suite),) = _SERVED
    return work.done(suite, job)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Ctrl-C waits, also in a process that starts meanwhile, until that serves its parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def worker_environment(threads: int, said: str) -> Iterator[None]:
    """The environment that worker processes inherit: OpenMP pools that fit the machine.

    ``said``: the folder in which they say what they are at.

    Python's own helper process is not to list the semaphores of workers that were ended.
    """
    quiet = [*filter(None, [os.environ.get("PYTHONWARNINGS")]), "ignore:resource_tracker"]
    ours = {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": ",".join(quiet), BEATS: said}
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


def _serve_parent() -> None:
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
