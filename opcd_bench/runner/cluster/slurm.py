"""Jobs of SLURM, through submitit: queued at once, requeued at a time limit, found again later."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import subprocess
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opcd_bench import preemption
from opcd_bench.config.suite import Suite
from opcd_bench.errors import UserError
from opcd_bench.progress import beat
from opcd_bench.runner.cluster.elsewhere import elsewhere
from opcd_bench.runner.cluster.jobs import End, Job, Lost
from opcd_bench.runner.cluster.sbatch import JOURNAL, Refused, Sbatch, last_line
from opcd_bench.runner.cluster.work import Parcel, Work
from opcd_bench.store.chain_dir import chain
from opcd_bench.store.files import LOCK
from opcd_bench.store.jsonl import read_rows
from opcd_bench.store.lease import Lease, living

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
        name = f"driver-{secrets.token_hex(4)}{LOCK}"
        self._sbatch = Sbatch(suite, folder, name)
        self._alive = Lease(folder / name)
        self._submitit = self._sbatch.submitit
        self._waiting: deque[tuple[Sequence[Job], int | None]] = deque()
        self._running: dict[str, tuple[Job, Any]] = {}
        self._asked = 0.0
        self._queue: Queue | None = None
        self._seen: set[str] = set()
        self._files: set[str] = set()
        self._unseen: Counter[str] = Counter()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs as arrays; those that an earlier driver queued, and that run, stay.

        Raises UserError where SLURM takes none and nothing of the suite's is queued.
        """
        self._adopt(jobs)
        new = [job for job in jobs if job.name not in self._running]
        arrays = [new[start : start + MOST] for start in range(0, len(new), MOST)]
        workers = self.suite.cluster_options.workers
        for number, array in enumerate(arrays):
            of_one = number < (workers or 0) % len(arrays)
            places = None if workers is None else max(1, workers // len(arrays) + of_one)
            self._waiting.append((array, places))
        self._queue_waiting()

    def _queue_waiting(self) -> None:
        """Queue what waits, as far as SLURM takes it: of an array that it refuses, a half.

        What is left is tried again at the next look, as long as something of ours is queued: there
        is a limit to a user's jobs, or to an array's. Raises UserError where nothing is.
        """
        before = len(self._running)
        while self._waiting:
            jobs, places = self._waiting.popleft()
            try:
                taken = self._sbatch.queued(
                    [Requeued()] * len(jobs), [self._parcel(job) for job in jobs], places
                )
            except Refused as refused:
                self._waiting.extendleft(reversed(_halves(jobs, places)))
                if len(jobs) > 1:
                    continue
                count = sum(len(some) for some, _ in self._waiting)
                if not self._running:
                    raise UserError(REFUSED.format(count=count, why=refused)) from None
                beat(not_queued=count)
                break
            self._running |= {job.name: (job, one) for job, one in zip(jobs, taken, strict=True)}
        if len(self._running) > before:
            self._look_at_queue()

    def ended(self, seconds: float) -> list[tuple[Job, End]]:
        """Jobs whose result is there, or that SLURM calls ended without one; one look a poll."""
        due = self._asked + self._poll - time.monotonic()
        if due > 0:
            time.sleep(min(due, seconds))
        if due > seconds:
            return []
        self._ask()
        self._queue_waiting()
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
REFUSED = (
    "--cluster slurm: {count} jobs were not taken: {why}. Change what jobs ask for (--cluster-set "
    "partition=…, account=…, minutes=…, gpus=…) or wait until there is room in the queue, and type "
    "the same command again: what is queued is found"
)
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


def _halves(jobs: Sequence[Job], places: int | None) -> list[tuple[Sequence[Job], int | None]]:
    """An array in two that share its places, one each at least; a single job as it is."""
    if len(jobs) == 1:
        return [(jobs, places)]
    half = len(jobs) // 2
    if places is None:
        return [(jobs[:half], None), (jobs[half:], None)]
    return [(jobs[:half], max(1, places // 2)), (jobs[half:], max(1, places - places // 2))]


def _end(one: Any) -> End:
    """How a job that has ended did."""
    try:
        outcome = one.result()
    except Exception as error:  # submitit's own, or whatever the work raised
        return Lost(last_line(str(error)) or type(error).__name__)
    assert isinstance(outcome, End)
    return outcome
