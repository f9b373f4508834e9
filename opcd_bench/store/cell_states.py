"""Where the begun cells of a suite stand: done, running, failed, or left by their process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from opcd_bench.store.files import LOCK, file_system_time
from opcd_bench.store.lease import living
from opcd_bench.store.lease_file import Holder
from opcd_bench.store.run_reader import RunReader, row_count
from opcd_bench.store.suite_dir import SuiteDir

State = Literal["done", "running", "failed", "interrupted"]


@dataclass(frozen=True)
class CellState:
    """A begun cell: its settings that tell it from others, its last step, and who runs it.

    ``interrupted``: nobody runs it, and it is neither done nor failed; the same command goes on.
    """

    name: str
    task: str
    method: str
    learning_rate: float
    seed: int
    state: State
    steps: int
    of_steps: int
    reason: str | None = None
    holder: Holder | None = None


def cell_states(suite: SuiteDir) -> list[CellState]:
    """Every begun cell, by name; from any machine that sees the folder, and nothing is written."""
    try:
        now: float | None = file_system_time(suite.path)
    except OSError:
        now = None
    return [_state(path, now) for path in suite.runs()]


def _state(path: Path, now: float | None) -> CellState:
    reader = RunReader(path)
    config, held = reader.config, None
    state: State = "interrupted"
    failure = reader.failure()
    if reader.sealed:
        state = "done"
    elif (held := living(path / LOCK, now)) is not None:
        state = "running"
    elif failure is not None:
        state = "failed"
    return CellState(
        name=path.name,
        task=config["task"]["name"],
        method=config["method"]["name"],
        learning_rate=float(config["learning_rate"]),
        seed=int(config["seed"]),
        state=state,
        steps=row_count(path, "train"),
        of_steps=int(config["suite"]["max_steps"]),
        reason=failure["reason"] if state == "failed" and failure is not None else None,
        holder=held,
    )
