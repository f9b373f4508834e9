"""Jobs of SLURM, through submitit: queued at once, requeued at a time limit, found again later."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opcd_bench.config.cluster import ClusterOptions
from opcd_bench.config.suite import Suite
from opcd_bench.errors import ConfigError, MissingPackage
from opcd_bench.runner.cluster import preemption
from opcd_bench.runner.cluster.elsewhere import elsewhere
from opcd_bench.runner.cluster.jobs import End, Job, Lost
from opcd_bench.runner.cluster.work import Parcel, Work
from opcd_bench.store.jsonl import append_row, read_rows

JOURNAL = "jobs.jsonl"
"""Which job of the suite is which of SLURM's: a driver that comes later finds what runs."""


class Requeued:
    """What SLURM runs: a job, and again after a preemption or at its time limit."""

    def __call__(self, parcel: Parcel) -> End:
        """Do the job; what is stored of it is gone on from."""
        return elsewhere(parcel)

    def checkpoint(self, parcel: Parcel) -> Any:
        """Called by submitit when SLURM is about to take the node away."""
        from submitit.helpers import DelayedSubmission

        preemption.leave()
        return DelayedSubmission(self, parcel)


class Slurm:
    """Queues jobs by submitit, whose files and logs lie in ``folder``."""

    room: int | None = None

    def __init__(self, suite: Suite, folder: Path, work: Work) -> None:
        self.suite, self.folder, self.work = suite, folder, work
        self._submitit, self._executor = _executor(suite, folder)
        self._running: dict[str, tuple[Job, Any]] = {}
        self._asked = 0.0

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs as one array; those that an earlier driver queued, and that run, stay."""
        self._adopt(jobs)
        new = [job for job in jobs if job.name not in self._running]
        if not new:
            return
        with self._executor.batch():
            queued = [self._executor.submit(Requeued(), self._parcel(job)) for job in new]
        for job, one in zip(new, queued, strict=True):
            self._running[job.name] = job, one
            if self._on_slurm:
                append_row(self.folder / JOURNAL, {"job": job.name, "id": one.job_id})

    def ended(self, seconds: float) -> list[tuple[Job, End]]:
        """Jobs whose result is there, or that SLURM calls ended without one."""
        poll = self.suite.cluster_options.poll_seconds
        until = time.monotonic() + min(seconds, poll)
        while True:
            if time.monotonic() - self._asked >= poll:
                self._ask()
            found = [name for name, (_, one) in self._running.items() if self._is_done(one)]
            if found or time.monotonic() >= until:
                return [
                    (self._running[name][0], _end(self._running.pop(name)[1])) for name in found
                ]
            time.sleep(0.2)

    def _ask(self) -> None:
        """Ask SLURM once for the states of all jobs."""
        self._asked = time.monotonic()
        if self._on_slurm:
            self._submitit.SlurmJob.watcher.update()

    @property
    def _on_slurm(self) -> bool:
        return self.suite.cluster_options.submit == "slurm"

    def _is_done(self, one: Any) -> bool:
        if self.suite.cluster_options.submit == "debug":
            return True  # submitit runs it when its result is asked for
        return bool(one.done())

    def leave(self) -> None:
        """Nothing: SLURM's jobs go on, and the next driver finds them."""

    def _parcel(self, job: Job) -> Parcel:
        return Parcel(self.work, self.suite, job, str(Path.cwd()))

    def _adopt(self, jobs: Sequence[Job]) -> None:
        """Take over what an earlier driver queued and SLURM has not ended."""
        file = self.folder / JOURNAL
        if not self._on_slurm or not file.is_file():
            return
        wanted = {job.name: job for job in jobs if job.name not in self._running}
        latest = {row["job"]: row["id"] for row in read_rows(file) if row["job"] in wanted}
        known = {n: self._submitit.SlurmJob(self.folder, number) for n, number in latest.items()}
        self._ask()
        self._running |= {n: (wanted[n], one) for n, one in known.items() if not one.done()}


def _end(one: Any) -> End:
    """How a job that has ended did."""
    try:
        outcome = one.result()
    except Exception as error:  # submitit's own, or whatever the work raised
        return Lost(_last_line(str(error)) or type(error).__name__)
    assert isinstance(outcome, End)
    return outcome


def _last_line(text: str) -> str:
    """The line that says why; submitit adds where its logs lie, after a trace."""
    text = text.partition("You can check full logs")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip(" -")]
    return lines[-1] if lines else ""


def _executor(suite: Suite, folder: Path) -> tuple[Any, Any]:
    """Submitit and its executor with what the suite's jobs ask for."""
    try:
        import submitit
    except ImportError:
        raise MissingPackage(
            "submitit", "pip install 'opcd-bench[slurm]'", "--cluster slurm needs it"
        ) from None
    options = suite.cluster_options
    try:
        executor = submitit.AutoExecutor(
            folder, cluster=options.submit, slurm_max_num_timeout=options.requeues
        )
        executor.update_parameters(**_parameters(suite.name, options))
    except (ValueError, RuntimeError, NameError, TypeError, AssertionError) as error:
        raise ConfigError(
            f"--cluster slurm: {_last_line(str(error))}. On a machine without SLURM, try it with "
            "--cluster-set submit=local"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)
    return submitit, executor


def _parameters(name: str, options: ClusterOptions) -> dict[str, Any]:
    given = {
        "name": f"opcd-{name}"[:60],
        "timeout_min": options.minutes,
        "cpus_per_task": options.cpus,
        "gpus_per_node": options.gpus or None,
        "mem_gb": options.memory_gb,
        "slurm_partition": options.partition,
        "slurm_account": options.account,
        "slurm_qos": options.qos,
        "slurm_setup": None if options.setup is None else [options.setup],
        "slurm_array_parallelism": options.workers,
        **{f"slurm_{key}": value for key, value in options.more.items()},
    }
    return {key: value for key, value in given.items() if value is not None}
