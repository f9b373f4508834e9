"""Jobs given to sbatch by submitit: what it takes is in the journal at once, or nothing is left."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from opcd_bench.config.cluster import ClusterOptions
from opcd_bench.config.suite import Suite
from opcd_bench.errors import ConfigError, MissingPackage, UserError
from opcd_bench.runner.cluster.jobs import End
from opcd_bench.runner.cluster.work import Parcel
from opcd_bench.store.files import explained
from opcd_bench.store.jsonl import append_row

JOURNAL = "jobs.jsonl"
"""Which job of the suite is which of SLURM's, with a digest of what it was given and whose it is: a
driver that comes later finds what runs."""

_TEMPORARY = re.compile(r"[0-9a-f]{32}\.pkl|\.submission_file_[0-9a-f]{32}\.sh")
"""What submitit writes before sbatch, and names by the job's id afterwards."""


class Refused(Exception):
    """SLURM took no job; says why, in one line."""


class Sbatch:
    """Gives jobs to SLURM, or to submitit's other executors; files and journal lie in ``folder``.

    ``driver``: whose jobs they are, in the journal. Raises MissingPackage, ConfigError for what
    submitit refuses, StoreError for a folder that cannot be made.
    """

    def __init__(self, suite: Suite, folder: Path, driver: str) -> None:
        self.folder, self.driver = folder, driver
        self.submitit, self._executor = _executor(suite, folder)

    def queued(
        self,
        works: Sequence[Callable[[Parcel], End]],
        parcels: Sequence[Parcel],
        places: int | None,
    ) -> list[Any]:
        """Submitit's jobs, as one array of which ``places`` (None: all) run at a time.

        Raises Refused where SLURM takes none, UserError where it is not known whether it did. Once
        it took them nothing is raised: what could not be moved to its place ends without a result.
        """
        if places is not None:
            self._executor.update_parameters(slurm_array_parallelism=places)
        utils, before = self.submitit.core.utils, set(os.listdir(self.folder))
        with self._journalled(parcels) as taken:
            try:
                with self._executor.batch():
                    return [
                        self._executor.submit(work, parcel)
                        for work, parcel in zip(works, parcels, strict=True)
                    ]
            except utils.FailedSubmissionError as error:
                raise UserError(f"--cluster slurm: {last_line(str(error))}") from None
            except (utils.FailedJobError, OSError) as error:
                if taken:
                    return [self.submitit.SlurmJob(self.folder, number) for number in taken]
                self._tidy(before)
                raise Refused(last_line(str(error)) or type(error).__name__) from None

    @contextmanager
    def _journalled(self, parcels: Sequence[Parcel]) -> Iterator[list[str]]:
        """The ids of the jobs that sbatch takes; they are in the journal as soon as it has said so.

        Submitit registers a job in its watcher before it moves any file.
        """
        watcher, taken = self.submitit.SlurmJob.watcher, list[str]()
        register = watcher.register_job

        def registered(number: str) -> None:
            register(number)
            if taken:
                return
            several = len(parcels) > 1
            taken.extend(f"{number}_{i}" if several else number for i in range(len(parcels)))
            for parcel, one in zip(parcels, taken, strict=True):
                row = {"job": parcel.job.name, "id": one, "driver": self.driver}
                append_row(self.folder / JOURNAL, {**row, "digest": parcel.digest})

        watcher.register_job = registered
        try:
            yield taken
        finally:
            del watcher.register_job

    def _tidy(self, before: set[str]) -> None:
        """Remove what was written for jobs that were not taken."""
        for name in set(os.listdir(self.folder)) - before:
            if _TEMPORARY.fullmatch(name):
                (self.folder / name).unlink(missing_ok=True)


def last_line(text: str) -> str:
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
            f"--cluster slurm: {last_line(str(error))}. On a machine without SLURM, try it with "
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
