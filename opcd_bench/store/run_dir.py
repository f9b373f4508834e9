"""The run directory: one writer, rows that survive a kill, checkpoints, and a seal at the end."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from opcd_bench.errors import StoreError
from opcd_bench.hashing import canonical
from opcd_bench.printable import printable
from opcd_bench.store import checkpoints
from opcd_bench.store.environment import differences, rounded_otherwise
from opcd_bench.store.files import (
    LOCK,
    explained,
    is_temporary,
    removal,
    remove_folder,
    remove_temporaries,
    sync,
    write_atomic,
)
from opcd_bench.store.jsonl import (
    PACKED,
    Row,
    append_row,
    canonical_row,
    object_text,
    packed,
    parse,
    read_lines,
    read_object,
    repair,
    unzipped,
    zipped,
)
from opcd_bench.store.lease import Lease
from opcd_bench.store.names import checked_name
from opcd_bench.store.run_reader import (
    CHECKPOINTS,
    CONFIG,
    DONE,
    ENVIRONMENT,
    FAILED,
    FINAL,
    ROWS,
    STEPPED,
    RunReader,
    forms,
)
from opcd_bench.store.suite_dir import suite_of
from opcd_bench.store.verification import contents

# A clock in these rows would make the resumed file differ from the uninterrupted one.
_CLOCK = {"time", "timestamp", "wall_time", "seconds", "elapsed", "date"}


OURS = {
    CONFIG, ENVIRONMENT, DONE, FAILED, CHECKPOINTS, "samples",
    *(f"{n}.jsonl" for n in ROWS), *(f"{n}.jsonl{PACKED}" for n in STEPPED),
}  # fmt: skip
"""All that a run's folder holds."""


class RunDir(RunReader):
    """One cell's folder, opened by ``open`` for its one writer; ``RunReader`` only reads.

    The order that makes a kill harmless: write all rows of step N (train, timing, evals, samples),
    then ``checkpoint(N)``; on resuming ``rewind(last.step)``, or ``rewind(-1)`` without one; at
    the end ``seal``. Use it in a ``with``, or call ``close``.
    """

    def __init__(self, path: Path, lease: Lease | None) -> None:
        super().__init__(path)
        self._lease = lease
        self.rounded_otherwise: list[str] = []
        """What moves last digits and is not as it was when the run began (old -> new)."""

    @classmethod
    def open(
        cls,
        path: Path,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        *,
        wait: bool = False,
    ) -> RunDir:
        """Create the run, or resume it; a sealed one is opened for reading.

        ``config`` holds what the run's numbers depend on and nothing else (runtime settings go
        into ``environment`` or an event): resuming needs it equal. StoreError for other settings,
        a foreign folder, one that another process writes (with ``wait`` queue for it), or one that
        cannot be written.
        """
        wanted = json.loads(canonical(dict(config)))
        _refuse_other(path, wanted)
        if (path / DONE).exists():
            return cls(path, None)
        with explained(path):
            path.mkdir(parents=True, exist_ok=True)
        lease = Lease(path / LOCK, wait=wait)
        try:
            _refuse_other(path, wanted)  # again: somebody may have come between
            if not (path / CONFIG).exists():
                remove_temporaries(path)
                write_atomic(path / CONFIG, object_text(wanted))
            run = cls(path, lease)
            if run.sealed:
                run.close()
            else:
                if (suite := suite_of(path)) is not None:
                    suite.delist(path / DONE)  # somebody removed it, and it is made anew
                run._begin(json.loads(canonical_row(environment)))
        except BaseException:
            lease.release()
            raise
        return run

    def _begin(self, environment: Row) -> None:
        for folder in (self.path, self.path / "samples"):
            remove_temporaries(folder)
        self._unpack()
        for name in ROWS:
            if self._file(name).exists():
                repair(self._file(name))
        removed = checkpoints.remove_unfinished(self.path / CHECKPOINTS)
        if not (self.path / ENVIRONMENT).exists():
            write_atomic(self.path / ENVIRONMENT, object_text(environment))
            self.event("started")
            return
        former = self.failure()
        changed = differences(self.environment, environment)
        self.rounded_otherwise = rounded_otherwise(changed)
        self.event(
            "resumed",
            environment=environment,
            changed=changed,
            removed=removed,
            after_failure=former,
        )
        with explained(self.path):
            (self.path / FAILED).unlink(missing_ok=True)

    # Rows ---------------------------------------------------------------------------------------

    def train(self, row: Mapping[str, Any]) -> None:
        """A row of train.jsonl: needs ``step``, and nothing that the clock touches."""
        self._append("train", row)

    def eval(self, row: Mapping[str, Any]) -> None:
        """A row of evals.jsonl: needs ``step``; rows of the final test say ``"final": true``."""
        self._append("evals", row)

    def timing(self, row: Mapping[str, Any]) -> None:
        """A row of timing.jsonl, where all that the clock touches goes: needs ``step``."""
        self._append("timing", row)

    def event(self, kind: str, **fields: Any) -> None:
        """A row of events.jsonl, with the time."""
        self._need_lease()
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        append_row(self._file("events"), {**fields, "kind": kind, "time": now})

    def samples(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write samples/<name>.jsonl.gz whole, in place of one that is there.

        Names say where they belong, for ``rewind``: ``dev-step_000050`` to a step, those without
        a step (``test``) to the end of the run.
        """
        self._need_lease()
        write_atomic(self._file(f"samples/{checked_name(name)}"), packed(rows))

    def drop_samples(self, prefix: str) -> None:
        """Remove the samples whose names begin so."""
        self._need_lease()
        for name in self.sample_names():
            if name.startswith(prefix):
                self._file(f"samples/{name}").unlink()

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        self._need_lease()
        if not isinstance(row.get("step"), int):
            raise ValueError(f"a row of {name}.jsonl needs an integer 'step' (rewind goes by it)")
        clock = sorted(_CLOCK & row.keys())
        if clock and name != "timing":
            raise ValueError(f"{clock} in {name}.jsonl: the clock belongs in timing.jsonl")
        append_row(self._file(name), row)

    def rewind(self, step: int) -> None:
        """Drop what was written past ``step`` (-1: everything), and the end's results in any case.

        Checkpoints go first, so that after a kill in between none is ahead of its rows.
        """
        self._need_lease()
        dropped: dict[str, Any] = {}
        for checkpoint in self.checkpoints():
            if checkpoint.step > step:
                self._need_lease()
                remove_folder(checkpoint.path)
                dropped[f"{CHECKPOINTS}/{checkpoint.path.name}"] = 1
        for name in self.sample_names():
            match = re.search(r"-step_(\d{6,})$", name)
            if match is None or int(match[1]) > step:
                self._need_lease()
                self._file(f"samples/{name}").unlink()
                dropped[f"samples/{name}"] = 1
        for name in STEPPED:
            if count := self._drop_rows(self._file(name), step):
                dropped[name] = count
        if dropped:
            self.event("rewound", step=step, dropped=dropped)

    def _drop_rows(self, path: Path, step: int) -> int:
        lines = read_lines(path) if path.exists() else []
        rows = [parse(line, path, number) for number, line in enumerate(lines, 1)]
        kept = [
            line
            for line, row in zip(lines, rows, strict=True)
            if row["step"] <= step and not row.get("final")
        ]
        self._need_lease()
        if not kept and path.exists():
            path.unlink()
        elif len(kept) < len(lines):
            write_atomic(path, b"".join(line + b"\n" for line in kept))
        return len(lines) - len(kept)

    # Checkpoints --------------------------------------------------------------------------------

    @contextmanager
    def checkpoint(self, step: int) -> Iterator[Path]:
        """A folder to fill, which becomes the checkpoint of ``step`` if the block succeeds.

        It promises that the rows up to ``step`` are stored: write them before.
        """
        self._need_lease()
        try:
            with checkpoints.writing(self.path / CHECKPOINTS, step, self._need_lease) as folder:
                yield folder
                self._sync_rows()
        except Exception:
            self._need_lease()  # whoever takes the run over removes what is half written
            raise

    def drop_checkpoints(self, keep: Collection[int]) -> None:
        """Remove all checkpoints but those of the steps in ``keep``."""
        self._need_lease()
        for checkpoint in self.checkpoints():
            if checkpoint.step not in keep:
                self._need_lease()
                remove_folder(checkpoint.path)

    # The end ------------------------------------------------------------------------------------

    def seal(self, summary: Mapping[str, Any], keep: Collection[int] | None = None) -> None:
        """Finish: DONE, written last, holds ``summary`` and the SHA-256 of every file.

        Rows are packed before: they are whole, and take a sixth. ``keep`` names the checkpoints to
        keep (None: all). The others go only after the seal, so that a kill before it can still
        resume from them.
        """
        self._need_lease()
        if (self.path / FAILED).exists():
            raise ValueError(f"{self.path}: a failed attempt is not sealed; open the run again")
        kept = [c for c in self.checkpoints() if keep is None or c.step in keep]
        if keep is not None and len(kept) < len(set(keep)):
            raise ValueError(f"keep = {sorted(keep)}, but not all of these checkpoints are there")
        self.event("finished")
        with explained(self.path):
            self._sync_rows()
        self._pack()
        files = {name: asdict(file) for name, file in contents(self.path).items()}
        hashes = {c.path.name: checkpoints.manifest_hash(c) for c in kept}
        clean = json.loads(canonical_row(summary))
        seal = {"summary": clean, "files": files, "checkpoints": hashes}
        lease = self._need_lease()  # hashing took its time
        write_atomic(self.path / DONE, object_text(seal))
        if (suite := suite_of(self.path)) is not None:
            suite.enlist(self.path / DONE)
        for checkpoint in self.checkpoints():
            if checkpoint not in kept:
                lease.check()
                remove_folder(checkpoint.path)
        self.close()

    def fail(self, reason: str, traceback: str, *, final: bool = False) -> None:
        """Record why the attempt ended; the next ``open`` moves it into the events.

        ``final``: another attempt would end so too.
        """
        self._need_lease()
        failure = {"reason": printable(reason), "traceback": printable(traceback)}
        write_atomic(
            self.path / FAILED, object_text({**failure, **({FINAL: True} if final else {})})
        )
        self.event("failed", reason=failure["reason"])

    def close(self) -> None:
        """Give the folder to the next writer; reading goes on to work."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def __enter__(self) -> RunDir:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pack(self) -> None:
        """Pack the rows that have a step. After a kill on the way `_unpack` puts them back."""
        for name in STEPPED:
            plain, packed = forms(self.path, name)
            if plain.exists():
                self._need_lease()
                with explained(plain):
                    write_atomic(packed, zipped(plain.read_bytes()))
                    plain.unlink()

    def _unpack(self) -> None:
        for name in STEPPED:
            plain, packed = forms(self.path, name)
            if packed.exists():
                self._need_lease()
                if not plain.exists():
                    write_atomic(plain, unzipped(packed))
                with explained(packed):
                    packed.unlink()

    def _sync_rows(self) -> None:
        for name in ROWS:
            if self._file(name).exists():
                sync(self._file(name))

    def _need_lease(self) -> Lease:
        """The lease, checked just now: call it before every write."""
        if self.sealed:
            raise StoreError(
                f"{self.path}: the run is finished and sealed ({DONE} is there), so nothing is "
                "written into it. To run it again, give another --name or --output-dir, or "
                f"remove it: {removal(self.path)}"
            )
        if self._lease is None:
            raise StoreError(f"{self.path}: opened for reading; RunDir.open opens it for writing")
        self._lease.check()
        return self._lease


def _refuse_other(path: Path, config: Row) -> None:
    """Raise StoreError where ``path`` holds anything but a run with ``config``."""
    if path.exists() and not path.is_dir():
        raise StoreError(
            f"{path} is a file, but the run needs a folder of that name. Move the file away, or "
            "give another folder with --output-dir"
        )
    with explained(path):
        there = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
    names = [name for name in there if not is_temporary(name)]
    ways = "Give another --name or --output-dir"
    if not names:
        return
    if names != [CONFIG] and (CONFIG not in names or ENVIRONMENT not in names):
        if {DONE, "events.jsonl"} & set(names) and set(names) <= OURS:
            gone = CONFIG if CONFIG not in names else ENVIRONMENT
            raise StoreError(
                f"{path / gone}: is gone, though this is a run. Put it back from a copy, or remove "
                f"the run and run it again: {removal(path)}"
            )
        raise StoreError(
            f"{path} has files ({', '.join(names[:3])}{' …' if len(names) > 3 else ''}) but no "
            f"{CONFIG} with an {ENVIRONMENT}, so it is not a run of opcd-bench and nothing is "
            f"written into it. {ways}"
        )
    if changed := differences(read_object(path / CONFIG), config):
        listing = "\n".join(f"  {line}" for line in changed)
        if {CONFIG, ENVIRONMENT} <= set(names) <= OURS:
            ways += f", or remove it: {removal(path)}"
        raise StoreError(
            f"{path} holds a run with other settings (stored -> now):\n{listing}\n{ways}"
        )
