"""A hello job: whether a cluster takes jobs, and what they see where they run."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from opcd_bench.config.suite import Suite
from opcd_bench.errors import ConfigError, UserError
from opcd_bench.progress import Reporter
from opcd_bench.runner.cluster.executor import drive
from opcd_bench.runner.cluster.jobs import Job, Outcome
from opcd_bench.runner.cluster.open import opened
from opcd_bench.runner.cluster.work import Work
from opcd_bench.version import __version__


def said(suite: Suite, console: Reporter) -> str:
    """What a job of the suite's cluster says: host, cores, GPUs. Raises UserError for why not."""
    if suite.cluster == "local":
        raise ConfigError("--cluster local is this machine; give slurm or ray")
    folder = Path(suite.output_dir) / "doctor"
    with opened(suite, folder, 0, Work(__name__)) as executor:
        for outcomes in drive(executor, [Job("prepare", "hello")], retries=0, console=console):
            for outcome in outcomes:
                if outcome.problem is not None:
                    raise UserError(outcome.problem)
                return " ".join(outcome.notes)
    raise AssertionError("a job ends in an outcome")


def load(suite: Suite) -> None:
    """Nothing is needed."""


def do(job: Job, held: None) -> Outcome:
    """In the job: where it runs, and what it sees there."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES") or "none"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    note = (
        f"a job ran on {socket.gethostname()}, opcd-bench {__version__}: {cores} cores, GPUs {gpus}"
    )
    return Outcome(job.name, None, notes=(note,))
