"""The folder of a suite: its runs, and the samples and trajectories that they share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from opcd_bench.errors import StoreError
from opcd_bench.store import suite_list
from opcd_bench.store.files import (
    LOCK,
    Problem,
    checksum,
    explained,
    is_leftover,
    is_temporary,
    removal,
    remove_temporaries,
    write_atomic,
)
from opcd_bench.store.jsonl import (
    PACKED,
    Row,
    joined,
    object_text,
    packed,
    read_object,
    read_rows,
)
from opcd_bench.store.lease import Lease
from opcd_bench.store.names import checked_name
from opcd_bench.store.run_reader import CONFIG, DONE, RunReader, sealed
from opcd_bench.store.suite_list import SEALED, SUITE

SHARED, EXTERNAL, ADAPTED, TOLD = "shared", "external", "adapted", "told-"
"""Folders of a suite besides its runs', and what those of shared/ begin with that only train."""
CLAIMS = "claims"
ENTRANT_SCORES, PREFIX_PROBE, OPTIMUM_PROBE = "entrant_scores", "prefix_probe", "optimum_probe"
"""Where suite.json lists what was scored and not trained, and what was probed, with where the rows
lie: no names of settings, which a run puts there."""
ENTRANT = ("name", "task", "learning_rate", "seed")
"""What tells entries of `ENTRANT_SCORES` apart; one that was scored again is listed once."""
CLUSTERS = "clusters"
"""Where suite.json says which examples of a measured set stand or fall together."""
OF_EXAMPLES = ("floors", CLUSTERS)
"""What suite.json says of the examples of each task."""


def is_suite(path: Path) -> bool:
    """Whether a folder is a suite's."""
    return (path / SUITE).is_file() or (path / SEALED).is_file()


def suite_of(path: Path) -> SuiteDir | None:
    """The suite that a run's folder lies in, if it lies in one."""
    return SuiteDir(path.parent) if is_suite(path.parent) else None


def is_ours(path: Path) -> bool:
    """Whether a folder with such a file was made by this program, as far as can be told."""
    try:
        if SUITE in suite_list.read(path):
            return True
    except StoreError:
        pass  # damaged, or somebody else's: suite.json tells
    if not (path / SUITE).is_file():
        return False
    try:
        said = read_object(path / SUITE)
    except StoreError:
        return True  # whoever reads it says that it is damaged, and nothing is written
    return not said or {"methods", "tasks"} <= said.keys() or {"name", "summary"} <= said.keys()


class SuiteDir:
    """``results/<suite>/``: suite.json, one folder a cell, ``shared/``, and the list SEALED.

    Opening writes nothing, and refuses a folder that holds something else (StoreError). Call
    ``merge`` before anything is put below: suite.json is what says that the folder is ours.
    ``lender``: a suite whose shared rows are taken where they are the same, and given what is made.
    """

    def __init__(self, path: Path, lender: SuiteDir | None = None) -> None:
        self.path, self.lender = path, lender
        self._finished: dict[Path, Row] = {}
        if path.exists() and not path.is_dir():
            raise StoreError(
                f"{path} is a file, but the suite needs a folder of that name. Move the file "
                "away, or give another folder with --output-dir, or another suite name with "
                "--name"
            )
        with explained(path):
            names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
            foreign = any(not is_temporary(name) for name in names) and not is_ours(path)
        if foreign:
            listed = f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
            what = f"a {SUITE} of something else" if SUITE in names else f"no {SUITE}"
            raise StoreError(
                f"{path} has files ({listed}) and {what}, so it is not a suite of opcd-bench: it "
                "stays as it is. Give another folder with --output-dir, or another suite name with "
                "--name"
            )

    def read(self) -> Row:
        """What suite.json says; empty where there is none yet, StoreError where it was changed."""
        if suite_list.problems_of(self.path, SUITE):
            self._refuse_changed(suite_list.read(self.path))
        return read_object(self.path / SUITE) if (self.path / SUITE).exists() else {}

    def merge(self, values: Mapping[str, Any]) -> Row:
        """Merge ``values`` into suite.json and return the whole.

        Objects are merged key by key, lists get the entries that they lack, the rest is replaced.
        Safe when two processes do it at once. StoreError where suite.json is not what was written
        last: merged, nobody could tell any more.
        """
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with Lease(self.path / LOCK, wait=True) as lease:
            remove_temporaries(self.path)
            listed = self._listed()
            self._refuse_changed(listed)
            self._put(SUITE, object_text(_merged(self.read(), values)).encode(), listed, lease)
            return read_object(self.path / SUITE)

    def put_external(self, name: str, data: bytes) -> tuple[Path, bool]:
        """Store ``external/<name>.json``; where it lies, and whether one of that name was there."""
        part = f"{EXTERNAL}/{checked_name(name)}.json"
        replaced = (self.path / part).exists()
        with Lease(self.path / LOCK, wait=True) as lease:
            self._put(part, data, self._listed(), lease)
        return self.path / part, replaced

    # The list of what is sealed -------------------------------------------------------------------

    def enlist(self, *parts: Path) -> None:
        """Put files into the list of sealed parts, as they are now; they are below the suite."""
        now = {self._part(path): (suite_list.checksum_of(path),) for path in parts}
        self._relist(lambda listed: {**listed, **now})

    def delist(self, part: Path) -> None:
        """Take a part off the list, for it is made anew; most often it is not on it."""
        name = self._part(part)
        if name in suite_list.read(self.path):
            self._relist(lambda listed: {key: listed[key] for key in listed if key != name})

    def listed(self, part: Path) -> str | None:
        """The SHA-256 that the list has of a part; None where it is not on it."""
        keys = suite_list.read(self.path).get(self._part(part))
        return keys[-1] if keys else None

    def _part(self, path: Path) -> str:
        return path.relative_to(self.path).as_posix()

    def _relist(
        self, change: Callable[[dict[str, tuple[str, ...]]], Mapping[str, tuple[str, ...]]]
    ) -> None:
        with Lease(self.path / LOCK, wait=True) as lease:
            changed = change(self._listed())
            if changed != suite_list.read(self.path):
                lease.check()
                suite_list.write(self.path, changed)

    def _listed(self) -> dict[str, tuple[str, ...]]:
        """The list, with what a kill kept out of it, or everything where there was none."""
        listed = suite_list.read(self.path)
        first = [self.path / SUITE] if not listed else []
        done = [run / DONE for run in self.runs() if (run / DONE).is_file()]
        shared = [
            one.file(name)
            for one in self.all_shared()
            if one.is_listed
            for name in one.names()
            if self._part(one.file(name)) not in listed and not one.damage(name)
        ]
        external = sorted((self.path / EXTERNAL).glob("*.json"))
        for path in (*first, *done, *shared, *external):
            if path.is_file() and self._part(path) not in listed:
                listed[self._part(path)] = (suite_list.checksum_of(path),)
        return listed

    def _put(
        self, part: str, data: bytes, listed: Mapping[str, tuple[str, ...]], lease: Lease
    ) -> None:
        """Write a part: until the second list is there, what it was and what it becomes count."""
        key = hashlib.sha256(data).hexdigest()
        if before := tuple(one for one in listed.get(part, ()) if one != key):
            lease.check()
            suite_list.write(self.path, {**listed, part: (*before, key)})
        lease.check()
        write_atomic(self.path / part, data)
        lease.check()
        suite_list.write(self.path, {**listed, part: (key,)})

    def _refuse_changed(self, listed: Mapping[str, tuple[str, ...]]) -> None:
        path = self.path / SUITE
        if path.is_symlink() or (
            path.is_file() and checksum(path).sha256 not in listed.get(SUITE, ())
        ):
            raise StoreError(
                f"{path}: was changed after it was written, and the report reads it. Put it back "
                f"from a copy; or, if it shall count as it is now, remove {self.path / SEALED} and "
                "run again"
            )
        if not path.exists() and len(listed) > 1:
            raise StoreError(
                f"{path}: is gone, though the suite has runs. Put it back from a copy, or give "
                "another suite name with --name, or another folder with --output-dir"
            )

    def run(self, cell: str) -> Path:
        """The folder of a cell, there or not."""
        return self.path / checked_name(cell)

    def runs(self) -> list[Path]:
        """The folders of the cells that were begun, by name."""
        return sorted(path.parent for path in self.path.glob(f"*/{CONFIG}"))

    def finished(self) -> dict[Path, Row]:
        """The sealed runs of now, by name, with their settings; each is read once, however often.

        StoreError where settings are not what was sealed.
        """
        now = filter(sealed, self.runs())
        self._finished = {path: self._finished.get(path) or RunReader(path).config for path in now}
        return self._finished

    def shared(self, task: str, key: str) -> SharedDir:
        """What cells share of ``task``; ``key`` is a hash of all that its rows depend on."""
        lender = None if self.lender is None else self.lender.shared(task, key)
        return SharedDir(self.path / SHARED / checked_name(f"{task}--{key}"), lender)

    def all_shared(self) -> list[SharedDir]:
        """Every shared folder, by name."""
        folder = self.path / SHARED
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        return [SharedDir(path) for path in paths if path.is_dir() and not is_leftover(path.name)]


def _merged(old: Any, new: Any, key: str | None = None) -> Any:
    """What two statements of a suite come to: lists are joined, all else is as said last.

    Claims are those said last, and so is what is said of a task's examples. Of what a probe has
    listed, that comes last which was asked last. An entrant is listed once (`ENTRANT`).
    """
    if key in OF_EXAMPLES:
        return {**old, **new}
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{k: _merged(old[k], v, k) if k in old else v for k, v in new.items()}}
    if isinstance(old, list) and isinstance(new, (list, tuple)) and key != CLAIMS:
        if key in (PREFIX_PROBE, OPTIMUM_PROBE):
            return [item for item in old if item not in new] + list(new)
        if key == ENTRANT_SCORES:
            every = {tuple(item.get(name) for name in ENTRANT): item for item in [*old, *new]}
            return list(every.values())
        return old + [item for item in new if item not in old]
    return new


class SharedDir:
    """``shared/<task>--<hash>/``: rows that are made once and then only read.

    ``<name>.jsonl.gz`` (plain in folders that the suite does not list, and in those of before)
    counts from the moment its ``<name>.sha256`` is there (``sha256sum -c`` reads it); a kill
    between the two leaves nothing that counts. What ``lender`` has is copied when it is asked for,
    so that the folder holds all that was read of it.
    """

    def __init__(self, path: Path, lender: SharedDir | None = None) -> None:
        self.path, self.lender = path, lender

    @property
    def is_listed(self) -> bool:
        """Whether the suite's list has its rows: not those that only train."""
        return self.path.parent.name == SHARED and not self.path.name.startswith(TOLD)

    def file(self, name: str) -> Path:
        """Where the rows of ``name`` lie, or will."""
        plain = self.path / f"{checked_name(name)}.jsonl"
        if not self.is_listed or plain.is_file() or self._was_plain(name, plain):
            return plain
        return plain.with_name(plain.name + PACKED)

    def _was_plain(self, name: str, plain: Path) -> bool:
        """Whether rows that are gone were not packed: those of before."""
        if self._here(name):
            with explained(self._mark(name)):
                said = self._mark(name).read_text(errors="replace")
            return said.endswith(f" {plain.name}\n")
        suite = self._suite()
        return suite is not None and suite.listed(plain) is not None

    def _mark(self, name: str) -> Path:
        return self.path / f"{checked_name(name)}.sha256"

    def has(self, name: str) -> bool:
        """Whether ``name`` was stored, here or at the lender."""
        return self._here(name) or (self.lender is not None and self.lender.has(name))

    def _here(self, name: str) -> bool:
        return self._mark(name).is_file()

    def names(self) -> list[str]:
        """What is stored."""
        return sorted(path.stem for path in self.path.glob("*.sha256"))

    def put(self, name: str, rows: Iterable[Mapping[str, Any]]) -> list[Row]:
        """Store rows once; returns those that are stored.

        When another process was first, its rows stay and are returned: use what comes back, so
        that every cell reads the same. StoreError where the suite's list says that other rows were
        here, which runs were measured against.
        """
        if self._here(name):
            return self.get(name)
        if self.lender is not None:
            rows = self.lender.put(name, rows)
        path, mark = self.file(name), self._mark(name)
        data = packed(rows) if path.suffix == PACKED else joined(rows)
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with Lease(self.path / LOCK, wait=True) as lease:
            if not self._here(name):
                remove_temporaries(self.path)
                self._refuse_other(path, hashlib.sha256(data).hexdigest())
                lease.check()
                write_atomic(path, data)
                lease.check()
                write_atomic(mark, f"{checksum(path).sha256}  {path.name}\n")
        if (suite := self._suite()) is not None and suite.listed(path) is None:
            suite.enlist(path)
        return self.get(name)

    def _suite(self) -> SuiteDir | None:
        """The suite whose list has these rows."""
        return suite_of(self.path.parent) if self.is_listed else None

    def _refuse_other(self, path: Path, key: str) -> None:
        suite = self._suite()
        before = None if suite is None else suite.listed(path)
        if suite is not None and before not in (None, key):
            raise StoreError(
                f"{path}: was removed, and what is measured now differs from it (another machine, "
                "or other versions). Put it back from a copy, or give another suite name with "
                "--name; or, if the runs that were measured against it are gone too, remove "
                f"{suite.path / SEALED} and run again"
            )

    def get(self, name: str) -> list[Row]:
        """The stored rows; StoreError where they are absent or damaged."""
        if self.lender is not None and not self._here(name) and self.lender.has(name):
            return self.put(name, self.lender.get(name))
        if not self._here(name):
            there = ", ".join(self.names()) or "nothing"
            raise StoreError(
                f"{self.file(name)}: not stored; there is {there}. Put it back from a copy, or run "
                "the suite again"
            )
        for problem in self.damage(name):
            raise StoreError(
                f"{problem}. Put it back from a copy; or remove its folder, the runs that read it "
                f"and, if there is one, the suite's list {SEALED}, and run again: "
                f"{removal(self.path)}"
            )
        return read_rows(self.file(name))

    def damage(self, name: str) -> list[Problem]:
        """What is wrong with rows that are stored."""
        path = self.file(name)
        for one in (path, self._mark(name)):
            if one.is_symlink():
                what = "changed: a symbolic link in place of the file"
                return [Problem(one, "changed", what, damage=True)]
        if not path.is_file():
            return [Problem(path, "missing", "missing", damage=True)]
        with explained(self._mark(name)):
            expected = self._mark(name).read_text(errors="replace").split(" ")[0]
        if checksum(path).sha256 != expected:
            what = "changed: its SHA-256 is not the one stored beside it"
            return [Problem(path, "changed", what, damage=True)]
        return []

    def problems(self) -> list[Problem]:
        """What ``verify`` finds here."""
        known = {self.file(name) for name in self.names()} | {self._mark(n) for n in self.names()}
        wrong = [problem for name in self.names() for problem in self.damage(name)]
        for path in sorted(self.path.iterdir()):
            if path not in known and not is_temporary(path.name):
                listed = None if (suite := self._suite()) is None else suite.listed(path)
                if listed is not None:
                    what = "its checksum beside it is missing"
                    mark = self._mark(path.name.split(".jsonl")[0])
                    wrong.append(Problem(mark, "missing", what, damage=True))
                    continue
                what = (
                    "there is no checksum beside it: it was not finished, or is not of opcd-bench; "
                    "nothing reads it"
                )
                wrong.append(Problem(path, "extra", what, damage=False))
        return wrong
