"""Reading a run directory, whatever its state."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from opcd_bench.errors import StoreError
from opcd_bench.store import checkpoints
from opcd_bench.store.checkpoints import Checkpoint
from opcd_bench.store.jsonl import PACKED, Row, read_object, read_rows

CONFIG, ENVIRONMENT, DONE, FAILED = "config.json", "environment.json", "DONE", "FAILED.json"
CHECKPOINTS = "checkpoints"
STEPPED = ("train", "evals", "timing")
ROWS = (*STEPPED, "events")


class RunReader:
    """A run opened for reading; ``RunDir`` adds the writing. StoreError where there is none."""

    def __init__(self, path: Path) -> None:
        if not (path / CONFIG).is_file():
            raise StoreError(f"{path} is not a run ({CONFIG} is missing)")
        self.path = path

    @property
    def sealed(self) -> bool:
        """Whether the run is finished and never written again."""
        return (self.path / DONE).exists()

    @property
    def state(self) -> Literal["sealed", "failed", "unfinished"]:
        """Where the run stands."""
        if self.sealed:
            return "sealed"
        return "failed" if (self.path / FAILED).exists() else "unfinished"

    @property
    def config(self) -> Row:
        """The settings it was created with."""
        return read_object(self.path / CONFIG)

    @property
    def environment(self) -> Row:
        """The environment it was created in; later ones are in its events."""
        return read_object(self.path / ENVIRONMENT)

    @property
    def summary(self) -> Row:
        """What was sealed with it; StoreError where it is not sealed."""
        if not self.sealed:
            raise StoreError(f"{self.path}: not finished ({self.state}), so it has no summary")
        summary = read_object(self.path / DONE)["summary"]
        assert isinstance(summary, dict), "seal() writes an object"
        return summary

    def read(self, name: str) -> list[Row]:
        """Rows of ``train``, ``evals``, ``timing``, ``events`` ([] if none yet), ``samples/…``."""
        name = name.removesuffix(".jsonl")
        path = self._file(name)
        if path.is_file():
            return read_rows(path)
        if name in ROWS:
            return []
        known = ", ".join([*ROWS, *(f"samples/{stem}" for stem in self.sample_names())])
        raise StoreError(f"{path}: no such rows; there are {known}")

    def sample_names(self) -> list[str]:
        """The stored samples, by name."""
        found = (path.name.removesuffix(PACKED) for path in (self.path / "samples").glob("*"))
        return sorted({name.removesuffix(".jsonl") for name in found if name.endswith(".jsonl")})

    def failure(self) -> Row | None:
        """``{"reason", "traceback"}`` of the attempt that failed, or None."""
        return read_object(self.path / FAILED) if (self.path / FAILED).exists() else None

    def checkpoints(self) -> list[Checkpoint]:
        """The whole checkpoints, by step; not yet checked for damage."""
        return checkpoints.found(self.path / CHECKPOINTS)

    def last_checkpoint(self) -> Checkpoint | None:
        """The latest one, every file checked; StoreError names the file that was damaged."""
        kept = self.checkpoints()
        return checkpoints.checked(kept[-1]) if kept else None

    def checkpoint_at(self, step: int) -> Checkpoint:
        """The checkpoint of ``step``, every file checked; StoreError where it is not there."""
        kept = {checkpoint.step: checkpoint for checkpoint in self.checkpoints()}
        if step not in kept:
            raise StoreError(
                f"{self.path / CHECKPOINTS}: no checkpoint of step {step}; there are "
                f"{', '.join(map(str, kept)) or 'none'}"
            )
        return checkpoints.checked(kept[step])

    def _file(self, name: str) -> Path:
        """Where rows lie, or will; samples are packed, but for those of older runs."""
        path = self.path / f"{name}.jsonl"
        if name in ROWS or path.is_file():
            return path
        return path.with_name(path.name + PACKED)


def sealed(path: Path) -> bool:
    """Whether a run is there, and done."""
    return (path / CONFIG).is_file() and RunReader(path).sealed
