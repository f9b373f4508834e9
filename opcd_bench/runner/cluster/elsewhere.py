"""A job where it runs: in one process, or in several that torchrun starts there."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from opcd_bench.runner.cluster.jobs import End, Lost, Outcome
from opcd_bench.runner.cluster.work import Parcel, in_this_process

ENTRY = "opcd_bench.cli.job"
"""The module that each of the processes runs."""

PATIENCE = 30
"""Seconds that processes have to end when the job is taken off its node."""


def elsewhere(parcel: Parcel) -> End:
    """What a cluster's job does."""
    if not Path(parcel.folder).is_dir():
        problem = f"{socket.gethostname()} does not see {parcel.folder}: use a folder that it does"
        return Outcome(parcel.job.name, problem)
    return in_this_process(parcel) if parcel.suite.processes == 1 else _by_several(parcel)


def _by_several(parcel: Parcel) -> End:
    """Do it with as many processes as the suite says, on the GPUs that the job sees.

    Lost where they end without a word: what they had stored is gone on from.
    """
    with tempfile.TemporaryDirectory() as place:
        given, told = Path(place) / "given", Path(place) / "told"
        given.write_bytes(pickle.dumps(parcel))
        words = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            f"--nproc-per-node={parcel.suite.processes}", "-m", ENTRY, str(given), str(told),
        ]  # fmt: skip
        threads = str(parcel.suite.threads or 1)
        process = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": threads})
        try:
            code = process.wait()
        finally:
            _ended(process)
        if not told.is_file():
            return Lost(f"its {parcel.suite.processes} processes ended with exit code {code}")
        outcome: End = pickle.loads(told.read_bytes())
        return outcome


def _ended(process: subprocess.Popen[bytes]) -> None:
    """End torchrun and, by it, its processes, where they have not ended by themselves."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
