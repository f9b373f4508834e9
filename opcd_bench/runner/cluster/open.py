"""Opens the executor that a suite asks for, with the package that it needs loaded here alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opcd_bench.config.suite import Suite
from opcd_bench.runner.cluster.executor import Executor
from opcd_bench.runner.cluster.local import LocalPool
from opcd_bench.runner.cluster.work import Work

FILES = ".opcd-bench-cluster-{user}"
"""Folder beside the suites with what their cluster's jobs were given, printed and said; each user's
by itself, since nobody else may cancel their jobs, or write where they have made a folder."""


@contextmanager
def opened(suite: Suite, suite_dir: Path, jobs: int, work: Work) -> Iterator[Executor]:
    """``jobs`` workers of this machine, or the suite's cluster.

    Raises MissingPackage for a cluster whose package is not installed, ConfigError for one that
    is not there or does not take the options.
    """
    if suite.cluster == "local":
        with LocalPool(suite, jobs, work) as pool:
            yield pool
        return
    suite = _asking(suite)
    if suite.cluster == "slurm":
        from opcd_bench.runner.cluster.slurm import Slurm

        own = suite_dir.parent / FILES.format(user=os.getuid()) / suite_dir.name
        slurm = Slurm(suite, own.absolute(), work)
        try:
            yield slurm
        finally:
            slurm.close()
        return
    from opcd_bench.runner.cluster.ray import Ray

    ray = Ray(suite, work)
    try:
        yield ray
    finally:
        ray.close()


def _asking(suite: Suite) -> Suite:
    """A suite with what its jobs need where nothing else is said: a GPU and a thread a process."""
    options = suite.cluster_options
    if suite.processes > 1 and not options.gpus and suite.device != "cpu":
        options = options.model_copy(update={"gpus": suite.processes})
    threads = suite.threads or max(1, options.cpus // suite.processes)
    return suite.model_copy(update={"threads": threads, "cluster_options": options})
