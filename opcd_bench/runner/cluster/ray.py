"""Tasks of Ray: each with its own cores and GPUs, given out again by us where a worker is lost."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opcd_bench.config.suite import Suite
from opcd_bench.errors import ConfigError, MissingPackage
from opcd_bench.runner.cluster.elsewhere import elsewhere
from opcd_bench.runner.cluster.jobs import End, Job, Lost
from opcd_bench.runner.cluster.work import Parcel, Work


class Ray:
    """Plain tasks without Ray's own retries: a job that is given out again goes on where it was."""

    def __init__(self, suite: Suite, work: Work) -> None:
        self.suite, self.work, self.options = suite, work, suite.cluster_options
        self.room = self.options.workers
        self._ray, self._ours = _connected(self.options.address)
        memory = self.options.memory_gb
        self._task = self._ray.remote(
            num_cpus=self.options.cpus,
            num_gpus=self.options.gpus,
            memory=None if memory is None else int(memory * 2**30),
            max_retries=0,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(suite.threads or self.options.cpus)}},
        )(elsewhere)
        self._running: dict[Any, Job] = {}

    def submit(self, jobs: Sequence[Job]) -> None:
        """Give out jobs: Ray queues what its nodes have no room for."""
        for job in jobs:
            parcel = Parcel(self.work, self.suite, job, str(Path.cwd()))
            self._running[self._task.remote(parcel)] = job

    def ended(self, seconds: float) -> list[tuple[Job, End]]:
        """Jobs that have ended, or whose worker or node has."""
        asked = list(self._running)
        if not asked:
            return []
        done, _ = self._ray.wait(asked, num_returns=len(asked), timeout=0)
        if not done:
            done, _ = self._ray.wait(asked, num_returns=1, timeout=seconds)
        return [(self._running.pop(one), self._end(one)) for one in done]

    def _end(self, one: Any) -> End:
        try:
            outcome = self._ray.get(one)
        except self._ray.exceptions.RayError as error:
            lines = [line for line in str(error).splitlines() if line.strip()]
            return Lost(f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}")
        assert isinstance(outcome, End)
        return outcome

    def leave(self) -> None:
        """Stop what runs: Ray's tasks live no longer than who gave them out."""
        for one in self._running:
            self._ray.cancel(one, force=True)
        self.close()

    def close(self) -> None:
        """Leave Ray; a cluster that was started for this run ends."""
        if self._ours:
            self._ray.shutdown()


def _connected(address: str | None) -> tuple[Any, bool]:
    """Ray, connected; and whether we did that."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise MissingPackage(
            "ray", "pip install 'opcd-bench[ray]'", "--cluster ray needs it"
        ) from None
    if ray.is_initialized():
        return ray, False
    given = address or os.environ.get("RAY_ADDRESS")
    where = None if address == "local" else given or "auto"
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        _knock(where)
        ray.init(address=where, include_dashboard=False, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"--cluster ray: no Ray cluster at {given or 'this machine'} "
            f"({str(error).splitlines()[0]}). Start one (ray start --head), give its address "
            "(--cluster-set address=HOST:PORT), or start one for this run alone "
            "(--cluster-set address=local)"
        ) from None
    return ray, True


def _knock(address: str | None) -> None:
    """Raise OSError where nobody listens: Ray itself would try for minutes, and say nothing."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=5).close()
