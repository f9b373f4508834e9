"""One of the processes that do a job of a cluster together; torchrun starts it, nobody types it."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path

from opcd_bench.cli import processes
from opcd_bench.runner.cluster.work import Parcel, in_this_process
from opcd_bench.store.files import write_atomic


def main(given: Path, told: Path) -> None:
    """Do the job that lies in ``given``; the first process writes into ``told`` how it ended."""
    parcel: Parcel = pickle.loads(given.read_bytes())
    os.chdir(parcel.folder)
    with processes.joined(parcel.suite) as leads:
        if leads:
            write_atomic(told, pickle.dumps(in_this_process(parcel)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
