"""Data files: their folder, which of it are a split's, and their rows, read lazily."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from opcd_bench.errors import DataError
from opcd_bench.store import user_files

Row = Mapping[str, Any]
SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")
BATCH = 4096
"""Rows held as Python values at a time: DAPO-Math-17k has 1.8 million."""

PACKAGED = "packaged"
"""The word for the folder of small made-up data that ships with the suites, for smoke runs."""

_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})")


def located(data_dir: str | Path | None) -> Path | None:
    """The folder that ``data_dir`` means: itself, or the one that ships, for ``packaged``.

    A folder of the user's own that is called so is ``./packaged``.
    """
    if data_dir is None:
        return None
    if data_dir == PACKAGED:
        return Path(__file__).parent / PACKAGED
    return Path(data_dir).expanduser()


def found_files(folder: Path, names: Sequence[str], config: str | None = None) -> tuple[Path, ...]:
    """The files of a split: one, or all its shards in order; none if there is no such split.

    Raises DataError where a folder has the split twice, in two forms or under two names.
    """
    for place in (folder, folder / "data", *([folder / config] if config else [])):
        forms: dict[str, tuple[Path, ...]] = {}
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            shard = _SHARD.fullmatch(path.stem)
            stem = shard[1] if shard else path.stem
            if stem not in names:
                continue
            form = f"{stem}{path.suffix}"
            if path.is_dir():
                inside = _data_files(path) or _data_files(path / "data")
                forms |= {f"{path.name}/": inside} if inside else {}
            elif path.suffix in SUFFIXES:
                forms[form] = (*forms.get(form, ()), path)
        if len(forms) > 1:
            raise DataError(
                f"{place}: {' and '.join(sorted(forms))} both hold the {names[0]} split; keep "
                "one of them"
            )
        for files in forms.values():
            shard = _SHARD.fullmatch(files[0].stem)
            if shard and int(shard[2]) != len(files):
                raise DataError(
                    f"{place}: only {len(files)} of the {int(shard[2])} files of the {names[0]} "
                    "split are there; download the others"
                )
            return files
    return ()


def _data_files(folder: Path) -> tuple[Path, ...]:
    """The files of one form in a folder that is a split of its own: Parquet goes first."""
    for suffix in (".parquet", ".jsonl", ".csv", ".json"):
        if found := sorted(folder.glob(f"*{suffix}")):
            return tuple(found)
    return ()


class Located(dict[str, Any]):
    """A row that knows where it was read: what is wrong with it names its file and line."""

    def __init__(self, values: Row, place: str) -> None:
        super().__init__(values)
        self.place = place


def place_of(row: object) -> str | None:
    """``train.jsonl, line 3`` of a row that was read from a file; None for one of the Hub's."""
    return row.place if isinstance(row, Located) else None


def changed(row: Row, values: Row) -> Row:
    """The row with some values changed, read where it was."""
    made = {**row, **values}
    return Located(made, row.place) if isinstance(row, Located) else made


def rows_of(paths: Sequence[Path]) -> Iterator[Row]:
    """The rows of files, in order; DataError (file and line) for what cannot be read."""
    for path in paths:
        try:
            user_files.require_regular(path, None)
            yield from _READERS[path.suffix](path)
        except user_files.Unusable as error:
            raise DataError(f"{path}: {error}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from None


def _json_rows(path: Path) -> Iterator[Row]:
    """A row a line, or one list of rows: both are called ``.json`` by those who publish."""
    with path.open(encoding="utf-8-sig") as opened:
        first = opened.read(1)
        opened.seek(0)
        if first == "[":
            values = user_files.json_of(opened.read())
            yield from (_object(value, f"{path}, row {n}") for n, value in enumerate(values, 1))
            return
        for number, line in enumerate(opened, 1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                value = user_files.json_of(line)
            except user_files.Unusable as error:
                raise DataError(f"{place}: {error}") from None
            yield _object(value, place)


def _object(value: Any, place: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{place}: a row must be a JSON object, not {str(value)[:40]!r}")
    return Located(value, place)


def _csv_rows(path: Path) -> Iterator[Row]:
    """Rows under a header; separated by semicolons where the header has more of those."""
    with path.open(encoding="utf-8-sig", newline="") as opened:
        header = opened.readline()
        opened.seek(0)
        separator = ";" if header.count(";") > header.count(",") else ","
        reader = csv.DictReader(opened, delimiter=separator)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{path}, line {reader.line_num}: the header has "
                        f"{len(reader.fieldnames or ())} columns (separated by {separator!r}), "
                        "but this row does not"
                    )
                yield Located(row, f"{path}, line {reader.line_num}")
        except csv.Error as error:
            raise DataError(f"{path}, line {reader.line_num}: {error}") from None


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(BATCH):
            for row in batch.to_pylist():
                number += 1
                yield Located(row, f"{path}, row {number}")
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: cannot be read as Parquet: {error}") from None


_READERS = {
    ".jsonl": _json_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}
