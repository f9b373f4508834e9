"""The folder of a suite: its runs, and the samples and trajectories that they share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from opcd_bench.errors import StoreError
from opcd_bench.store.files import (
    LOCK,
    Lock,
    Problem,
    checksum,
    explained,
    is_temporary,
    removal,
    remove_temporaries,
    write_atomic,
)
from opcd_bench.store.jsonl import Row, joined, object_text, read_object, read_rows
from opcd_bench.store.run_reader import CONFIG

SUITE, SHARED = "suite.json", "shared"


def checked_name(name: str) -> str:
    """``name``, if it can be a file's name inside a run; ValueError otherwise."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.,=+-]*", name, flags=re.ASCII):
        raise ValueError(f"{name!r} cannot name a file: use letters, digits and . , = + - _")
    return name


def is_suite(path: Path) -> bool:
    """Whether a folder is a suite's."""
    return (path / SUITE).is_file()


class SuiteDir:
    """``results/<suite>/``: suite.json, one folder a cell, and ``shared/``.

    Opening writes nothing, and refuses a folder that holds something else (StoreError). Call
    ``merge`` before anything is put below: suite.json is what says that the folder is ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise StoreError(
                f"{path} is a file, but the suite needs a folder of that name. Move the file "
                "away, or give another folder with --output-dir, or another suite name with "
                "--name"
            )
        with explained(path):
            names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
            foreign = any(not is_temporary(name) for name in names) and not is_suite(path)
        if foreign:
            raise StoreError(
                f"{path} has files ({', '.join(names[:3])}{' …' if len(names) > 3 else ''}) but "
                f"no {SUITE}, so it is not a suite of opcd-bench and nothing is written into it. "
                "Give another folder with --output-dir, another suite name with --name, or "
                f"remove it: {removal(path)}"
            )

    def read(self) -> Row:
        """What suite.json says; empty where there is none yet."""
        return read_object(self.path / SUITE) if (self.path / SUITE).exists() else {}

    def merge(self, values: Mapping[str, Any]) -> Row:
        """Merge ``values`` into suite.json and return the whole.

        Objects are merged key by key, lists get the entries that they lack, the rest is replaced.
        Safe when two processes do it at once.
        """
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with Lock(self.path / LOCK, wait=True):
            remove_temporaries(self.path)
            merged = _merged(self.read(), values)
            write_atomic(self.path / SUITE, object_text(merged))
            return read_object(self.path / SUITE)

    def run(self, cell: str) -> Path:
        """The folder of a cell, there or not."""
        return self.path / checked_name(cell)

    def runs(self) -> list[Path]:
        """The folders of the cells that were begun, by name."""
        return sorted(path.parent for path in self.path.glob(f"*/{CONFIG}"))

    def shared(self, task: str, key: str) -> SharedDir:
        """What cells share of ``task``; ``key`` is a hash of all that its rows depend on."""
        return SharedDir(self.path / SHARED / checked_name(f"{task}--{key}"))

    def all_shared(self) -> list[SharedDir]:
        """Every shared folder, by name."""
        folder = self.path / SHARED
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        return [SharedDir(path) for path in paths if path.is_dir() and not is_temporary(path.name)]


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{k: _merged(old[k], v) if k in old else v for k, v in new.items()}}
    if isinstance(old, list) and isinstance(new, (list, tuple)):
        return old + [item for item in new if item not in old]
    return new


class SharedDir:
    """``shared/<task>--<hash>/``: rows that are made once and then only read.

    ``<name>.jsonl`` counts from the moment its ``<name>.sha256`` is there (``sha256sum -c`` reads
    it); a kill between the two leaves nothing that counts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, name: str) -> Path:
        """Where the rows of ``name`` lie, or will."""
        return self.path / f"{checked_name(name)}.jsonl"

    def _mark(self, name: str) -> Path:
        return self.path / f"{checked_name(name)}.sha256"

    def has(self, name: str) -> bool:
        """Whether ``name`` was stored."""
        return self._mark(name).is_file()

    def names(self) -> list[str]:
        """What is stored."""
        return sorted(path.stem for path in self.path.glob("*.sha256"))

    def put(self, name: str, rows: Iterable[Mapping[str, Any]]) -> list[Row]:
        """Store rows once; returns those that are stored.

        When another process was first, its rows stay and are returned: use what comes back, so
        that every cell reads the same.
        """
        path, mark = self.file(name), self._mark(name)
        if self.has(name):
            return self.get(name)
        data = joined(rows)
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        with Lock(self.path / LOCK, wait=True):
            if not self.has(name):
                remove_temporaries(self.path)
                write_atomic(path, data)
                write_atomic(mark, f"{checksum(path).sha256}  {path.name}\n")
        return self.get(name)

    def get(self, name: str) -> list[Row]:
        """The stored rows; StoreError where they are absent or damaged."""
        if not self.has(name):
            there = ", ".join(self.names()) or "nothing"
            raise StoreError(f"{self.file(name)}: not stored yet; there is {there}")
        for problem in self._problems_of(name):
            raise StoreError(
                f"{problem}. Put it back from a copy; or remove its folder and the runs that read "
                f"it, and run again: {removal(self.path)}"
            )
        return read_rows(self.file(name))

    def _problems_of(self, name: str) -> list[Problem]:
        path = self.file(name)
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
        wrong = [problem for name in self.names() for problem in self._problems_of(name)]
        for path in sorted(self.path.iterdir()):
            if path not in known and not is_temporary(path.name):
                what = "there is no checksum beside it: it was not finished, or is not of "
                "opcd-bench; nothing reads it"
                wrong.append(Problem(path, "extra", what, damage=False))
        return wrong
