"""A grid of cells on workers that fail at random: none is lost or run twice, and what it costs.

    python benchmarks/grid_simulation.py --cells 1000 --workers 200 --kill 0.3

The loop that drives jobs (`runner.cluster.executor.drive`) and the leases of cells' folders
(`store.lease`) are the product's own. A worker is a process that holds a cell's lease, writes its
steps one by one after the last that is there, and its seal; it is killed (SIGKILL) with probability
``--kill`` on its way. ``--drivers 2``: two drivers work on the same folder at once, as if two
people had typed the same command.
"""

from __future__ import annotations

import argparse
import multiprocessing
import multiprocessing.connection
import os
import random
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from opcd_bench.errors import StoreError
from opcd_bench.progress import QuietReporter
from opcd_bench.runner.cluster.executor import drive
from opcd_bench.runner.cluster.jobs import Job, Lost, Outcome
from opcd_bench.store.files import LOCK, write_atomic
from opcd_bench.store.lease import Lease


@dataclass(frozen=True)
class Cells:
    """What a worker does: ``steps`` rows, ``seconds`` each, and dies on the way with ``kill``."""

    folder: Path
    steps: int
    seconds: float
    kill: float


def run_cell(cells: Cells, name: str, seed: int) -> None:
    """A cell from its last row to its seal, in a process of its own; exit code 75: it is held."""
    rng = random.Random(seed)
    last_step = rng.randrange(cells.steps) if rng.random() < cells.kill else None
    folder = cells.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lease = Lease(folder / LOCK)
    except StoreError:
        os._exit(75)
    rows, done = folder / "rows", folder / "DONE"
    with lease:
        if done.exists():
            os._exit(0)
        with rows.open("ab", buffering=0) as file:
            written = rows.read_bytes().count(b"\n")
            for step in range(written, cells.steps):
                time.sleep(cells.seconds)
                lease.check()
                file.write(f"{step}\n".encode())
                if step == last_step:
                    os.kill(os.getpid(), signal.SIGKILL)
        lease.check()
        with (cells.folder / "seals").open("ab", buffering=0) as seals:
            seals.write(f"{name}\n".encode())
        write_atomic(done, "{}")
    os._exit(0)


@dataclass
class Workers:
    """An executor of ``room`` processes at most, each of which does one job."""

    cells: Cells
    room: int | None
    rng: random.Random
    running: dict[str, tuple[Job, BaseProcess]] = field(default_factory=dict)
    started: int = 0

    def submit(self, jobs: Sequence[Job]) -> None:
        """Begin jobs."""
        fork = multiprocessing.get_context("fork")
        for job in jobs:
            given = (self.cells, job.name, self.rng.getrandbits(62))
            process = fork.Process(target=run_cell, args=given, daemon=True)
            process.start()
            self.started += 1
            self.running[job.name] = job, process

    def ended(self, seconds: float) -> list[tuple[Job, Outcome | Lost]]:
        """Jobs whose process has ended, well or not."""
        sentinels = [process.sentinel for _, process in self.running.values()]
        multiprocessing.connection.wait(sentinels, timeout=seconds)
        found: list[tuple[Job, Outcome | Lost]] = []
        for name, (job, process) in list(self.running.items()):
            if process.exitcode is None:
                continue
            del self.running[name]
            code = process.exitcode
            end = Outcome(name, None) if code == 0 else Lost(f"exit code {code}")
            found.append((job, end))
        return found

    def leave(self) -> None:
        """End what runs."""
        for _, process in self.running.values():
            process.kill()


def drive_all(cells: Cells, names: Sequence[str], workers: int, seed: int) -> int:
    """One driver's whole run; how many processes it began."""
    executor = Workers(cells, workers, random.Random(seed))
    jobs = [Job("cell", name) for name in names]
    for _ in drive(executor, jobs, retries=10_000, console=QuietReporter(), seconds=0.5):
        pass
    return executor.started


@dataclass(frozen=True)
class Found:
    """What a simulation came to."""

    cells: int
    lost: int
    sealed_twice: int
    wrong_rows: int
    processes: int
    seconds: float
    ideal: float

    def __str__(self) -> str:
        return (
            f"{self.cells} cells: {self.lost} lost, {self.sealed_twice} sealed twice, "
            f"{self.wrong_rows} with rows missing or repeated; {self.processes} processes begun; "
            f"{self.seconds:.1f} s, {self.seconds / self.ideal:.2f} times the work's own "
            f"{self.ideal:.1f} s"
        )


def simulate(
    count: int,
    workers: int,
    *,
    steps: int,
    seconds: float,
    kill: float,
    drivers: int,
    seed: int = 0,
) -> Found:
    """Run the grid in a temporary folder and look at what is there after it."""
    with tempfile.TemporaryDirectory() as place:
        cells = Cells(Path(place), steps, seconds, kill)
        names = [f"cell-{number:05d}" for number in range(count)]
        began = time.perf_counter()
        fork = multiprocessing.get_context("fork")
        begun = fork.SimpleQueue()

        def one(number: int) -> None:
            begun.put(drive_all(cells, names, max(1, workers // drivers), number))

        processes = [fork.Process(target=one, args=(number,)) for number in range(drivers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        took = time.perf_counter() - began
        wanted = "".join(f"{step}\n" for step in range(steps))
        folders = [cells.folder / name for name in names]
        seals = (cells.folder / "seals").read_text().split()
        return Found(
            cells=count,
            lost=sum(not (folder / "DONE").exists() for folder in folders),
            sealed_twice=len(seals) - len(set(seals)),
            wrong_rows=sum((folder / "rows").read_text() != wanted for folder in folders),
            processes=sum(begun.get() for _ in range(drivers)),
            seconds=took,
            ideal=count * steps * seconds / workers,
        )


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.2, help="of a step")
    parser.add_argument("--kill", type=float, default=0.3, help="chance that a worker is killed")
    parser.add_argument("--drivers", type=int, default=1)
    given = parser.parse_args()
    print(
        simulate(
            given.cells,
            given.workers,
            steps=given.steps,
            seconds=given.seconds,
            kill=given.kill,
            drivers=given.drivers,
        )
    )


if __name__ == "__main__":
    main()
