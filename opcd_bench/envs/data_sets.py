"""Rows of a data set, from a local folder or from the Hub."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opcd_bench.envs.data_files import (
    BATCH,
    PACKAGED,
    SUFFIXES,
    Row,
    found_files,
    located,
    place_of,
    rows_of,
)
from opcd_bench.envs.task import Split
from opcd_bench.errors import DataError, MissingData
from opcd_bench.store import user_files

_asks_the_hub: ContextVar[bool] = ContextVar("asks_the_hub", default=True)


@dataclass(frozen=True)
class HubSplit:
    """A split as the Hub has it: what ``datasets.load_dataset`` is called with.

    ``files`` is a pattern for sets whose own loading script ``datasets`` no longer runs; ``alone``
    says that the repository has this split of ours and no other.
    """

    path: str
    split: str = "train"
    config: str | None = None
    revision: str | None = None
    files: str | None = None
    alone: bool = False


@dataclass(frozen=True)
class DataPart:
    """One of our splits of a data set, and what it is called locally and on the Hub.

    ``names``: stems of its local files. A part that is not ``required`` may be absent from a local
    folder; whoever divides the set carves it from another.
    """

    split: Split
    names: tuple[str, ...]
    hub: HubSplit
    required: bool = True


@contextlib.contextmanager
def local_only() -> Iterator[None]:
    """While inside, nothing asks the Hub (nor its cache): what is not in a folder is missing."""
    token = _asks_the_hub.set(False)
    try:
        yield
    finally:
        _asks_the_hub.reset(token)


def pools(
    name: str, parts: Sequence[DataPart], *, data_dir: str | Path | None
) -> dict[Split, Iterator[Row]]:
    """The rows of every part of a data set; a local folder may leave out what is not required.

    Raises as `rows` does.
    """
    folder = folder_of(name, data_dir)
    return {
        part.split: rows(name, part.names[0], data_dir=data_dir, hub=part.hub, files=part.names[1:])
        for part in parts
        if part.required or folder is None or found_files(folder, part.names, part.hub.config)
    }


def rows(
    name: str,
    split: str,
    *,
    data_dir: str | Path | None,
    hub: HubSplit,
    files: Sequence[str] = (),
) -> Iterator[Row]:
    """The rows of one split of a data set, lazily, in the order of their source.

    The folder ``<data_dir>/<name>`` comes first, if it is there: a file named after the split, or
    one of ``files`` (``train.jsonl``, ``.json``, ``.parquet``, ``.csv``), in it or in its
    ``data`` or configuration's folder, in shards as the Hub names them or not. Without the folder
    they come through ``datasets`` from the Hub or its cache (HF_HUB_OFFLINE is honoured).

    Raises MissingData where the set is not to be had, with what to download, where to put it and
    what to type; DataError (file and line) for one that cannot be read, or for two of one split.
    """
    names = (split, *files)
    folder = folder_of(name, data_dir)
    if folder is None:
        if not _asks_the_hub.get():
            raise MissingData(_missing(name, names, data_dir, hub, "the Hub was not asked"))
        return _from_hub(name, names, data_dir, hub)
    found = found_files(folder, names, hub.config)
    if not found:
        there = sorted(path.name for path in folder.iterdir())[:6]
        raise MissingData(
            f"data set {name!r}: {folder} holds {', '.join(there) or 'nothing'}, but no file of "
            f"the {split} split. Name such a file {_choice(names)}, or download the data set: "
            f"{_download(hub, names, folder)}"
        )
    return rows_of(found)


def folder_of(name: str, data_dir: str | Path | None) -> Path | None:
    """The data set's folder, if there is one; DataError where ``data_dir`` is no folder at all.

    The packaged data stand in for no Hub: MissingData for a set that they lack.
    """
    base = located(data_dir)
    if base is None:
        return None
    if data_dir == PACKAGED and not (base / name).is_dir():
        there = ", ".join(sorted(path.name for path in base.glob("*/")))
        raise MissingData(
            f"data set {name!r}: it is not among the packaged data ({there}). Give a folder that "
            "has it with --data-dir, or read the Hub: --set data_dir=none"
        )
    require_folder(data_dir, f" ({base / name})")
    return base / name if (base / name).is_dir() else None


def require_folder(data_dir: str | Path | None, example: str = "") -> None:
    """Raise DataError where ``data_dir`` is given and no folder."""
    base = located(data_dir)
    try:
        found = base is None or base.is_dir()
    except OSError as error:
        name = user_files.shown(str(data_dir))
        raise DataError(f"--data-dir {name}: {error.strerror}; give another folder") from None
    if not found:
        raise DataError(
            f"--data-dir {data_dir}: there is no such folder; make it, with one folder per data "
            f"set inside{example}"
        )


def value_of(row: Row, column: str, name: str) -> Any:
    """A row's value; DataError names the columns that there are, and the file and line."""
    if column not in row:
        raise DataError(
            f"{where(row, name)}: a row has no column {column!r}; it has {', '.join(map(str, row))}"
        )
    return row[column]


def where(row: object, name: str) -> str:
    """The data set ``name``, with file and line of a row that has them: how an error begins."""
    place = place_of(row)
    return f"data set {name!r}" if place is None else f"data set {name!r} ({place})"


def _from_hub(
    name: str, names: Sequence[str], data_dir: str | Path | None, hub: HubSplit
) -> Iterator[Row]:
    import datasets

    try:
        loaded = datasets.load_dataset(
            hub.path,
            hub.config if hub.files is None else None,
            data_files=None if hub.files is None else {hub.split: hub.files},
            split=hub.split,
            revision=hub.revision,
        )
    # RuntimeError: a set that is a script; ValueError: no such configuration or split
    except (OSError, RuntimeError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise MissingData(_missing(name, names, data_dir, hub, reason)) from None
    tables = loaded.with_format("arrow").iter(batch_size=BATCH)
    return (row for table in tables for row in table.to_pylist())


def _missing(
    name: str, names: Sequence[str], data_dir: str | Path | None, hub: HubSplit, reason: str
) -> str:
    folder = Path("DATA" if data_dir is None else data_dir) / name
    given = "--data-dir was not given" if data_dir is None else f"{folder} is not there"
    return (
        f"data set {name!r}: {given}, and {hub.path} could not be read from the Hub ({reason}). "
        f"On a machine with internet, type: {_download(hub, names, folder)}; or put "
        f"{_choice(names)} into {folder}. Then add --data-dir {folder.parent}"
    )


def _download(hub: HubSplit, names: Sequence[str], folder: Path) -> str:
    revision = "" if hub.revision is None else f" --revision {hub.revision}"
    place = folder / names[0] if hub.alone else folder
    return f"hf download {hub.path} --repo-type dataset{revision} --local-dir {place}"


def _choice(names: Sequence[str]) -> str:
    """``a.jsonl, b.jsonl (or .json, .parquet, .csv)``."""
    files = ", ".join(f"{name}{SUFFIXES[0]}" for name in names)
    return f"{files} (or {', '.join(SUFFIXES[1:])})"
