"""The folder of an extraction: attempts, reflections, items and contexts, each stage on its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from opcd_bench.distillation.stored_replies import of_row
from opcd_bench.envs import context_file
from opcd_bench.envs.context_file import ContextFile
from opcd_bench.errors import StoreError
from opcd_bench.rollout.trajectory import Skipped, Trajectory
from opcd_bench.store.environment import differences
from opcd_bench.store.files import (
    LOCK,
    checksum,
    explained,
    is_temporary,
    removal,
    remove_temporaries,
    require_room,
    write_atomic,
)
from opcd_bench.store.jsonl import Row, append_row, object_text, read_object, read_rows
from opcd_bench.store.lease import Lease

TRACES = "traces"
ELSEWHERE = "Give another folder with --out"
"""What to type of `opcd-bench extract` where an extraction cannot be in its folder."""


def date_of(folder: Path) -> str:
    """The day (YYYY-MM-DD) that chat templates print in an extraction: its first, or today."""
    path = folder / f"{TRACES}.json"
    model = read_object(path).get("model") if path.is_file() else None
    stored = model.get("date") if isinstance(model, Mapping) else None
    return str(stored or date.today().isoformat())


class ExperienceDir:
    """``traces/`` is shared by the variants, each of which has a folder of its own.

    ::

        traces.json  traces/s000.jsonl               settings; attempts, a row each
        memoryless.json                              settings
        memoryless/reflections/s000.jsonl            a row an attempt
        memoryless/items/s000.jsonl                  a row a lesson
        memoryless/s000.json                         the context; nothing else has its place here

    ``elsewhere``: what to type where it cannot be here.
    """

    def __init__(self, path: Path, variant: str, elsewhere: str = ELSEWHERE) -> None:
        self.path, self.variant, self.elsewhere = path, variant, elsewhere
        self._lease: Lease | None = None

    def open(self) -> None:
        """Make the folder; StoreError where it holds something that is no extraction."""
        self.refuse_foreign()
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)

    def refuse_foreign(self) -> None:
        """Raise as `open` does, and make nothing: call it before a model is loaded."""
        path = self.path
        if path.exists() and not path.is_dir():
            raise StoreError(
                f"{path}: is a file, and the extraction needs a folder of that name. "
                f"{self.elsewhere}"
            )
        with explained(path):
            require_room(path)
            names = sorted(entry.name for entry in path.iterdir()) if path.exists() else []
        foreign = [name for name in names if not is_temporary(name)]
        if foreign and not self._is_ours():
            raise StoreError(
                f"{path}: has files ({', '.join(foreign[:3])}{' …' if len(foreign) > 3 else ''}) "
                f"but no {TRACES}.json of ours, so it is no extraction of opcd-bench and nothing "
                f"is written into it. {self.elsewhere}"
            )

    def _is_ours(self) -> bool:
        """Whether the settings of an extraction's attempts, or of a variant of it, lie here."""
        stages = {TRACES: {"task", "model", "sampling"}, self.variant: {"traces", "variant"}}
        paths = {self.path / f"{stage}.json": keys for stage, keys in stages.items()}
        return any(
            path.is_file() and keys <= read_object(path).keys() for path, keys in paths.items()
        )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the folder's only writer; StoreError where another process is."""
        with Lease(self.path / LOCK) as lease:
            self._lease = lease
            try:
                yield
            finally:
                self._lease = None

    def _check(self) -> None:
        assert self._lease is not None, "written within `writing` alone"
        self._lease.check()

    def clean(self) -> None:
        """Remove what a kill left of writes of ours, in every stage. Only within `writing`."""
        self._check()
        own = self.path / self.variant
        for folder in (self.path, self.path / TRACES, own, own / "reflections", own / "items"):
            remove_temporaries(folder)

    def sealed(self, seeds: int) -> list[Path]:
        """All that contexts of these seeds come from, and the contexts: never written again."""
        settings = [self.path / f"{stage}.json" for stage in (TRACES, self.variant)]
        own = [
            path
            for seed in range(seeds)
            for path in (
                self.trace_file(seed),
                self.file("reflections", seed),
                self.file("items", seed),
                self.context(seed),
            )
        ]
        return [path for path in (*settings, *own) if path.exists()]

    def same_settings(self, stage: str, settings: Mapping[str, Any]) -> None:
        """Store the settings of ``traces`` or of a variant; StoreError where there are others."""
        path = self.path / f"{stage}.json"
        if not path.exists():
            self._check()
            write_atomic(path, object_text(settings))
            return
        if changed := differences(read_object(path), settings):
            here = self.path / stage
            raise StoreError(
                f"{here} was made with other settings (stored -> now):\n"
                + "\n".join(f"  {line}" for line in changed)
                + f"\n{self.elsewhere}, or remove it: {removal(path)} "
                f"{removal(here).removeprefix('rm -r ')}"
            )

    def trace_file(self, seed: int) -> Path:
        """Where the attempts of a seed lie, or will."""
        return self.path / TRACES / f"s{seed:03d}.jsonl"

    def file(self, stage: str, seed: int) -> Path:
        """Where a seed's ``reflections`` or ``items`` lie, or will."""
        return self.path / self.variant / stage / f"s{seed:03d}.jsonl"

    def context(self, seed: int) -> Path:
        """Where a seed's context lies, or will."""
        return self.path / self.variant / f"s{seed:03d}.json"

    def attempts(self, seed: int) -> list[Trajectory | Skipped]:
        """The attempts of a seed, in order."""
        return [of_row(row) for row in read_rows(self.trace_file(seed))]

    def reflected(self, seed: int) -> list[Row]:
        """The reflections of a seed that are there so far, in order."""
        path = self.file("reflections", seed)
        return read_rows(path) if path.exists() else []

    def reflect(self, seed: int, row: Mapping[str, Any]) -> None:
        """Append a reflection; on the disk when this returns."""
        path = self.file("reflections", seed)
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._check()
        append_row(path, row, fsync=True)

    def put(self, path: Path, data: bytes) -> None:
        """Write a file, unless it is there just so; StoreError where another is: it stays."""
        if not path.exists():
            self._check()
            write_atomic(path, data)
        elif path.read_bytes() != data:
            self._refuse_other(path)

    def put_context(self, seed: int, made: ContextFile) -> None:
        """`put` a seed's context. One that tells the same stays, whichever version made it."""
        path = self.context(seed)
        if not path.exists() or not context_file.tells(path, made):
            self.put(path, context_file.text_of(made).encode())

    def _refuse_other(self, path: Path) -> None:
        raise StoreError(
            f"{path}: is there and is not what is made now (it was edited, or what it was made of "
            "was), and a suite may be using it, so it is not overwritten. Put it back from a copy, "
            f"or, if nothing uses it, remove it: {removal(path)}"
        )

    def files(self, seed: int) -> dict[str, dict[str, str]]:
        """The files that a seed's context comes from, with their checksums, for its provenance."""
        paths = {
            TRACES: self.trace_file(seed),
            "reflections": self.file("reflections", seed),
            "items": self.file("items", seed),
        }
        return {
            stage: {"file": str(path.relative_to(self.path)), "sha256": checksum(path).sha256}
            for stage, path in paths.items()
            if path.exists()
        }
