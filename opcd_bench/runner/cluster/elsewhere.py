"""A job of several processes: torchrun starts them where it runs, the first says how it went."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from opcd_bench.runner.cluster.jobs import Lost, Outcome, Parcel

ENTRY = "opcd_bench.cli.job"
"""The module that each of the processes runs."""

PATIENCE = 30
"""Seconds that processes have to end when the job is taken off its node."""


def done_by_several(work: Callable[[Parcel], Outcome | Lost], parcel: Parcel) -> Outcome | Lost:
    """Do ``work`` with as many processes as the suite says, on the GPUs that the job sees.

    Lost where they end without a word: what they had stored is gone on from.
    """
    with tempfile.TemporaryDirectory() as place:
        given, told = Path(place) / "given", Path(place) / "told"
        given.write_bytes(pickle.dumps((work, parcel)))
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
        outcome: Outcome | Lost = pickle.loads(told.read_bytes())
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
