"""The work of a process that serves a suite: it loads what jobs share once, and does one by one."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from opcd_bench.config.fields import GRID_FIELDS
from opcd_bench.config.suite import Suite
from opcd_bench.errors import CellFailed, FolderBusy, UserError
from opcd_bench.hashing import digest
from opcd_bench.runner.cluster.jobs import End, Job, Outcome, Taken

_HELD: dict[str, Any] = {}
"""Of a process, what it has loaded of the suite that it serves: the next job finds it there."""


@dataclass(frozen=True)
class Work:
    """``load(suite)`` and ``do(job, held)``, by the names of their module and their own.

    They are found in a worker alone. Only so can it choose its GPU before torch is imported: what
    is pickled is imported first.
    """

    module: str
    load: str = "load"
    do: str = "do"

    def held(self, suite: Suite) -> Any:
        """What ``load`` makes of a suite, made once."""
        key = suite.model_dump_json()
        if key not in _HELD:
            _HELD.clear()
            _HELD[key] = self._found(self.load)(suite)
        return _HELD[key]

    def done(self, suite: Suite, job: Job) -> Outcome:
        """How a job of a suite ended."""
        outcome: Outcome = self._found(self.do)(job, self.held(suite))
        return outcome

    def _found(self, name: str) -> Callable[..., Any]:
        function: Callable[..., Any] = getattr(importlib.import_module(self.module), name)
        return function


@dataclass(frozen=True)
class Parcel:
    """What a process elsewhere needs to do a job: whose work it is, the suite, and a folder.

    ``folder``: what relative paths of the suite are relative to.
    """

    work: Work
    suite: Suite
    job: Job
    folder: str

    @property
    def digest(self) -> str:
        """Of all that makes the job what it is: not how its driver goes about it.

        Nor the grid around a cell, which its own settings (`Job.what`) say as far as they hold of
        it: a suite to which something is added finds its cells again.
        """
        suite = self.suite.model_dump()
        for name in ("poll_seconds", "retries", "workers"):
            del suite["cluster_options"][name]
        for name in ("summary", "claims", *(GRID_FIELDS if self.job.kind == "cell" else ())):
            suite.pop(name, None)
        what = [asdict(self.work), suite, asdict(self.job), self.folder]
        return digest(what, 16)


def in_this_process(parcel: Parcel) -> End:
    """Do a job in the folder that the command was typed in; of several processes, in the first.

    A folder that another process is writing is left to it, and whoever gave the job out is told.
    """
    os.chdir(parcel.folder)
    try:
        parcel.work.held(parcel.suite)
    except (UserError, CellFailed) as error:
        return Outcome(parcel.job.name, str(error))
    try:
        return parcel.work.done(parcel.suite, parcel.job)
    except FolderBusy as busy:
        return Taken(str(busy))
