"""Reading a run directory, whatever its state."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

from opcd_bench.errors import StoreError
from opcd_bench.store import checkpoints, suite_list
from opcd_bench.store.checkpoints import Checkpoint
from opcd_bench.store.files import Checksum, compare, found_at, removal
from opcd_bench.store.jsonl import PACKED, Row, read_lines, read_object, read_rows

CONFIG, ENVIRONMENT, DONE, FAILED = "config.json", "environment.json", "DONE", "FAILED.json"
FINAL = "final"
"""Key of FAILED.json where another attempt would end so too."""
CHECKPOINTS = "checkpoints"
STEPPED = ("train", "evals", "timing")
ROWS = (*STEPPED, "events")


class RunReader:
    """A run opened for reading; ``RunDir`` adds the writing. StoreError where there is none.

    What is read of a sealed run is what was sealed, or a StoreError that names the file.
    """

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
        self._refuse_changed(CONFIG)
        return read_object(self.path / CONFIG)

    @property
    def environment(self) -> Row:
        """The environment it was created in; later ones are in its events."""
        self._refuse_changed(ENVIRONMENT)
        return read_object(self.path / ENVIRONMENT)

    @property
    def summary(self) -> Row:
        """What was sealed with it; StoreError where it is not sealed."""
        if not self.sealed:
            raise StoreError(f"{self.path}: not finished ({self.state}), so it has no summary")
        summary = self._seal.get("summary")
        if not isinstance(summary, dict):
            raise self._damaged(DONE, "changed: this is no longer a seal")
        return summary

    def read(self, name: str) -> list[Row]:
        """Rows of ``train``, ``evals``, ``timing``, ``events`` ([] if none yet), ``samples/…``."""
        name = name.removesuffix(".jsonl")
        path = self._file(name)
        self._refuse_changed(path.relative_to(self.path).as_posix())
        if path.is_file():
            return read_rows(path)
        if name in ROWS:
            return []
        known = ", ".join([*ROWS, *(f"samples/{stem}" for stem in self.sample_names())])
        raise StoreError(f"{path}: no such rows; there are {known}")

    def refuse_damage(self) -> None:
        """Raise StoreError for the first file that is not what was sealed; not for checkpoints."""
        for name in self._listed:
            self._refuse_changed(name)

    def sample_names(self) -> list[str]:
        """The stored samples, by name; of a sealed run those that were sealed."""
        there = (path.name for path in (self.path / "samples").glob("*"))
        if self.sealed:
            sealed = (Path(name) for name in self._listed)
            there = (path.name for path in sealed if path.parent.name == "samples")
        found = (name.removesuffix(PACKED) for name in there)
        return sorted({name.removesuffix(".jsonl") for name in found if name.endswith(".jsonl")})

    def failure(self) -> Row | None:
        """``{"reason", "traceback"}`` of the attempt that failed (and `FINAL`), or None."""
        return read_object(self.path / FAILED) if (self.path / FAILED).exists() else None

    def checkpoints(self) -> list[Checkpoint]:
        """The whole checkpoints, by step; not yet checked for damage."""
        return checkpoints.found(self.path / CHECKPOINTS)

    def last_checkpoint(self) -> Checkpoint | None:
        """The latest one, every file checked; StoreError names the file that was damaged."""
        kept = self.checkpoints()
        return checkpoints.checked(kept[-1], sealed=self.sealed) if kept else None

    def checkpoint_at(self, step: int) -> Checkpoint:
        """The checkpoint of ``step``, every file checked; StoreError where it is not there."""
        kept = {checkpoint.step: checkpoint for checkpoint in self.checkpoints()}
        if step not in kept:
            raise StoreError(
                f"{self.path / CHECKPOINTS}: no checkpoint of step {step}; there are "
                f"{', '.join(map(str, kept)) or 'none'}"
            )
        return checkpoints.checked(kept[step], sealed=self.sealed)

    @cached_property
    def _seal(self) -> Row:
        """What DONE says, if the list of the suite that the run lies in says so too."""
        for problem in suite_list.problems_of(self.path.parent, f"{self.path.name}/{DONE}"):
            raise self._damaged(DONE, problem.what)
        return read_object(self.path / DONE)

    @cached_property
    def _listed(self) -> dict[str, Checksum]:
        return checkpoints.read_listing(self._seal, self.path / DONE)

    def _refuse_changed(self, name: str) -> None:
        """Raise StoreError for a file that is not, or is no longer, what was sealed."""
        if not self.sealed:
            return
        listed = {key: value for key, value in self._listed.items() if key == name}
        for problem in compare(self.path, listed, found_at(self.path, name)):
            raise self._damaged(name, problem.what)

    def _damaged(self, name: str, what: str) -> StoreError:
        return StoreError(
            f"{self.path / name}: {what}, and the run is sealed. Put it back from a copy, or "
            f"remove the run and run it again: {removal(self.path)} (opcd-bench verify tells all "
            "that is damaged)"
        )

    def _file(self, name: str) -> Path:
        """Where rows lie, or will. What is whole is packed: samples, and at the seal the rest.

        Older runs have samples, and seals, without.
        """
        plain, packed = forms(self.path, name)
        if self.sealed:
            return packed if f"{name}.jsonl{PACKED}" in self._listed else plain
        begun = name in ROWS and not packed.is_file()
        return plain if begun or plain.is_file() else packed


def forms(path: Path, name: str) -> tuple[Path, Path]:
    """Where rows of ``name`` lie in a run: while they are written, and once they are packed."""
    return path / f"{name}.jsonl", path / f"{name}.jsonl{PACKED}"


def row_count(path: Path, name: str) -> int:
    """How many rows of ``name`` a run has, whatever its state; nothing is checked."""
    for file in forms(path, name):
        if file.is_file():
            return len(read_lines(file))
    return 0


def sealed(path: Path) -> bool:
    """Whether a run is there, and done."""
    return (path / CONFIG).is_file() and RunReader(path).sealed
