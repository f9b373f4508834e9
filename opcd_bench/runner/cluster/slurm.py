"""Jobs of SLURM, through submitit: queued at once, requeued at a time limit, found again later."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opcd_bench import preemption
from opcd_bench.config.cluster import ClusterOptions
from opcd_bench.config.suite import Suite
from opcd_bench.errors import ConfigError, MissingPackage, UserError
from opcd_bench.runner.cluster.elsewhere import elsewhere
from opcd_bench.runner.cluster.jobs import End, Job, Lost
from opcd_bench.runner.cluster.work import Parcel, Work
from opcd_bench.store.chain_dir import chain
from opcd_bench.store.files import LOCK, explained
from opcd_bench.store.jsonl import append_row, read_rows
from opcd_bench.store.lease import Lease, living

JOURNAL = "jobs.jsonl"
"""Which job of the suite is which of SLURM's, with a digest of what it was given and whose it is: a
driver that comes later finds what runs."""


MOST = 1000
"""Jobs of an array at most: SLURM's MaxArraySize is 1001 where nobody has changed it."""

LOCALLY = 2.0
"""Seconds between two looks at most, where jobs are processes of this machine."""

UNSEEN = 3
"""Looks in a row at which SLURM's queue does not have a job, before it is given out again."""

LATE = 2
"""The same of a job that SLURM calls ended: its result may reach this machine a moment later."""

ENDED = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY REVOKED TIMEOUT".split()
)
"""States of a job that does not go on, unless it is in the queue again. Every other state may: a
preempted job is requeued, a suspended, held, configuring or completing one is not at its end."""


class Requeued:
    """What SLURM runs: a job, and again after a preemption or at its time limit."""

    def __call__(self, parcel: Parcel) -> End:
        """Do the job; what is stored of it is gone on from.

        Raises Left where it is being requeued, so that no result says it had ended: whatever was
        caught on the way, also submitit's SystemExit.
        """
        end = elsewhere(parcel)
        preemption.refuse()
        return end

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
        self._queue: Queue | None = None
        self._seen: set[str] = set()
        self._files: set[str] = set()
        self._unseen: Counter[str] = Counter()
        self._alive = Lease(folder / f"driver-{secrets.token_hex(4)}{LOCK}")

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs as arrays; those that an earlier driver queued, and that run, stay.

        Raises UserError where SLURM takes none.
        """
        self._adopt(jobs)
        new = [job for job in jobs if job.name not in self._running]
        arrays = [new[start : start + MOST] for start in range(0, len(new), MOST)]
        for number, array in enumerate(arrays):
            for job, one in zip(array, self._queued(array, number, len(arrays)), strict=True):
                self._running[job.name] = job, one
                if self._on_slurm:
                    row = {"job": job.name, "id": one.job_id, "driver": self._alive.path.name}
                    append_row(self.folder / JOURNAL, {**row, "digest": self._parcel(job).digest})
        if new:
            self._look_at_queue()

    def _queued(self, jobs: Sequence[Job], number: int, arrays: int) -> list[Any]:
        """An array of jobs, one of several that share the places of ``workers``."""
        if (workers := self.suite.cluster_options.workers) is not None:
            share = workers // arrays + (number < workers % arrays)
            self._executor.update_parameters(slurm_array_parallelism=max(1, share))
        utils = self._submitit.core.utils
        try:
            with self._executor.batch():
                return [self._executor.submit(Requeued(), self._parcel(job)) for job in jobs]
        except (utils.FailedJobError, utils.FailedSubmissionError, OSError) as error:
            raise UserError(
                f"--cluster slurm: {len(jobs)} jobs were not taken: "
                f"{_last_line(str(error)) or type(error).__name__}. Change what jobs ask for "
                "(--cluster-set partition=…, account=…, minutes=…, gpus=…) or wait until there is "
                "room in the queue, and type the same command again: what is queued is found"
            ) from None

    def ended(self, seconds: float) -> list[tuple[Job, End]]:
        """Jobs whose result is there, or that SLURM calls ended without one; one look a poll."""
        due = self._asked + self._poll - time.monotonic()
        if due > 0:
            time.sleep(min(due, seconds))
        if due > seconds:
            return []
        self._ask()
        ends: list[tuple[Job, End]] = []
        for name, (job, one) in list(self._running.items()):
            if self._has_result(one):
                ends.append((job, _end(one)))
            elif self._unseen[name] >= (UNSEEN if (state := self._ended_as(one)) is None else LATE):
                ends.append((job, Lost(GONE if state is None else WITHOUT.format(state=state))))
        for job, _ in ends:
            del self._running[job.name], self._unseen[job.name]
        return ends

    @property
    def _poll(self) -> float:
        """Seconds between two looks."""
        options = self.suite.cluster_options
        if options.submit == "debug":
            return 0.0
        return options.poll_seconds if self._on_slurm else min(options.poll_seconds, LOCALLY)

    def _ask(self) -> None:
        """Ask SLURM once for the states of all jobs and for what it still has to do; list results.

        Without accounting, and of jobs that it has forgotten, only its queue says anything.
        """
        self._asked = time.monotonic()
        if not self._on_slurm:
            return
        with contextlib.suppress(OSError):  # NFS looks anew at a folder that was changed
            self.folder.chmod(stat.S_IMODE(self.folder.stat().st_mode))
        self._files = set(os.listdir(self.folder))
        self._submitit.SlurmJob.watcher.update()
        self._look_at_queue()
        for name, (job, one) in self._running.items():
            gone = self._is_gone(one) and not self._is_written(job)
            gone |= self._ended_as(one) is not None
            self._unseen[name] = self._unseen[name] + 1 if gone else 0

    def _look_at_queue(self) -> None:
        """Ask SLURM for all of the user's jobs; those that it has once named can be missed."""
        if self._on_slurm:
            self._queue = _queue()
            self._seen |= self._queue.keys() if self._queue is not None else set()

    def _is_gone(self, one: Any) -> bool:
        """Whether SLURM's queue had a job and has it no more; not where it cannot be asked."""
        return self._queue is not None and one.job_id in self._seen - self._queue.keys()

    def _ended_as(self, one: Any) -> str | None:
        """The state in which a job has ended, as SLURM's queue or its accounts say; or None.

        Accounts may still have the state of before a job was queued again.
        """
        queued = (self._queue or {}).get(one.job_id)
        state = queued or self._submitit.SlurmJob.watcher.get_state(one.job_id, mode="cache")
        state = state.upper().partition(" ")[0]  # CANCELLED by 1000
        return state if state in ENDED else None

    def _is_written(self, job: Job) -> bool:
        """Whether a process somewhere writes the folder of a cell or a chain."""
        suite_dir = Path(self.suite.output_dir) / self.suite.name
        folders = (suite_dir / job.name, chain(suite_dir, job.name).path)
        return any(living(folder / LOCK) is not None for folder in folders)

    @property
    def _on_slurm(self) -> bool:
        return self.suite.cluster_options.submit == "slurm"

    def _has_result(self, one: Any) -> bool:
        if self.suite.cluster_options.submit == "debug":
            return True  # submitit runs it when its result is asked for
        if not self._on_slurm:
            return bool(one.done())
        return one.paths.result_pickle.name in self._files

    def leave(self) -> None:
        """Nothing: SLURM's jobs go on, and the next driver finds them."""

    def _parcel(self, job: Job) -> Parcel:
        return Parcel(self.work, self.suite, job, str(Path.cwd()))

    def close(self) -> None:
        """Say that this driver has ended: what it queued is the next one's."""
        self._alive.release()

    def _adopt(self, jobs: Sequence[Job]) -> None:
        """Take over what an earlier driver queued for the same, and SLURM has not ended.

        What one that has ended queued for something else under the same name is cancelled: it
        would run with other settings. A check is always made anew.
        """
        file = self.folder / JOURNAL
        if not self._on_slurm or not file.is_file():
            return
        wanted = {job.name: job for job in jobs if job.name not in self._running}
        mine = self._alive.path.name
        rows = [
            row for row in read_rows(file) if row["job"] in wanted and row.get("driver") != mine
        ]
        known = [(row, self._submitit.SlurmJob(self.folder, row["id"])) for row in rows]
        self._seen |= {row["id"] for row in rows}
        self._ask()
        for row, one in reversed(known):
            if self._has_result(one) or self._ended_as(one) or self._is_gone(one):
                continue
            job = wanted[row["job"]]
            same = job.kind != "prepare" and row.get("digest") == self._parcel(job).digest
            if same and job.name not in self._running:
                self._running[job.name] = job, one
            elif living(self.folder / row.get("driver", "gone")) is None:
                one.cancel(check=False)


GONE = "SLURM does not know the job any more, and it left no result"
WITHOUT = "it left no result (state: {state})"

Queue = dict[str, str]
"""Job id -> state, of the jobs that SLURM's controller knows: some that have just ended too."""


def _queue() -> Queue | None:
    """The user's jobs of every state, in hidden partitions too; None where SLURM does not say.

    What the user has set for squeue (SQUEUE_STATES, SQUEUE_PARTITION, …) does not hold here.
    """
    asked = ["squeue", "--noheader", "--array", "--all", "--states=all", "--format=%i %T"]
    own = {key: value for key, value in os.environ.items() if not key.startswith("SQUEUE_")}
    try:
        said = subprocess.run(
            [*asked, f"--user={os.getuid()}"],
            capture_output=True, text=True, check=True, timeout=60, env=own,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(line.split(maxsplit=1) for line in said.stdout.splitlines() if " " in line)


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
    """Submitit and its executor with what the suite's jobs ask for.

    Raises MissingPackage, ConfigError for what submitit refuses, StoreError for a folder that
    cannot be made.
    """
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
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # jobs are given the suite whole, with its credentials
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
