"""JSON lines: rows without NaN, appended whole, read back whole after a crash."""

from __future__ import annotations

import gzip
import json
import math
import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from opcd_bench.errors import StoreError
from opcd_bench.store.files import explained, write_all

Row = dict[str, Any]

PACKED = ".gz"
"""The suffix of a file of rows that is packed by gzip."""


def canonical_row(row: Mapping[str, Any]) -> str:
    """The one line of JSON of a row: sorted keys, no spaces, no NaN.

    A value that is not finite becomes null and is named in ``note``, after a note that is there:
    ``{"loss": nan}`` is ``{"loss":null,"note":"not finite: loss (nan)"}``. Raises TypeError for
    what JSON does not have (tensors, keys that are no strings): convert before storing.
    """
    lost: list[str] = []
    clean = {key: _finite(value, _name("", key), lost) for key, value in row.items()}
    if lost:
        said = f"not finite: {', '.join(lost)}"
        clean["note"] = f"{row['note']}; {said}" if row.get("note") else said
    text = json.dumps(clean, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair in a reply: UTF-8 has no bytes for it
        text = json.dumps(clean, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return text


def _finite(value: Any, where: str, lost: list[str]) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        lost.append(f"{where} ({float(value)})")
        return None
    if isinstance(value, Mapping):
        return {key: _finite(item, _name(where, key), lost) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item, f"{where}[{n}]", lost) for n, item in enumerate(value)]
    return value


def _name(where: str, key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a row's keys are strings; {key!r} below {where or 'the row'!r} is not")
    return f"{where}.{key}" if where else key


def joined(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The bytes of a file of rows."""
    return b"".join(canonical_row(row).encode() + b"\n" for row in rows)


def packed(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The bytes of a packed file of rows; the same rows give the same bytes."""
    return zipped(joined(rows))


def zipped(data: bytes) -> bytes:
    """The data packed by gzip, without a date."""
    return gzip.compress(data, compresslevel=6, mtime=0)


def append_row(path: Path, row: Mapping[str, Any], *, fsync: bool = False) -> None:
    """Append one row in one write; a torn line that a crash left at the end goes first.

    With ``fsync`` it is on the disk on return. StoreError where it cannot be written; the file is
    then as before.
    """
    line = canonical_row(row).encode() + b"\n"
    with explained(path):
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = _cut_torn_line(handle)
            try:
                write_all(handle, line)
                if fsync:
                    os.fsync(handle)
            except BaseException:
                os.ftruncate(handle, size)
                raise
        finally:
            os.close(handle)


def repair(path: Path) -> None:
    """Cut a torn last line off a file of rows, if it has one."""
    with explained(path):
        handle = os.open(path, os.O_RDWR)
        try:
            _cut_torn_line(handle)
        finally:
            os.close(handle)


def _cut_torn_line(handle: int) -> int:
    """Cut what follows the last newline; the size that is left. A row ends with its newline."""
    size = os.fstat(handle).st_size
    end = size
    while end > 0:
        start = max(0, end - (1 << 16))
        newline = os.pread(handle, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(handle, end)
    return end


def read_lines(path: Path) -> list[bytes]:
    """The whole lines of a file, without their newlines; a torn last line is left out.

    A file whose name ends in `PACKED` is unpacked; StoreError where it is damaged.
    """
    if path.suffix == PACKED:
        data = unzipped(path)
    else:
        with explained(path):
            data = path.read_bytes()
    return data.split(b"\n")[:-1]


def unzipped(path: Path) -> bytes:
    """What `zipped` packed into a file; StoreError where it is damaged."""
    with explained(path):
        data = path.read_bytes()
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from None


def read_rows(path: Path) -> list[Row]:
    """The rows of a file; a torn last line is left out, any other bad line is a StoreError."""
    return [parse(line, path, number) for number, line in enumerate(read_lines(path), 1)]


def parse(line: bytes, path: Path, number: int) -> Row:
    """One row from its line; StoreError names file and line where it is none."""
    try:
        row = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _bad_line(path, number, str(error)) from None
    if not isinstance(row, dict):
        raise _bad_line(path, number, f"a {type(row).__name__}, not an object")
    return row


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _bad_line(path: Path, number: int, why: str) -> StoreError:
    return StoreError(
        f"{path}, line {number}: not a row ({why}). The file was damaged after it was written: "
        "put it back from a copy, or remove its folder and run again"
    )


def read_object(path: Path) -> Row:
    """The object in a JSON file; StoreError where it is absent or damaged."""
    with explained(path):
        data = path.read_bytes()
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
        if not isinstance(value, dict):
            raise ValueError(f"a {type(value).__name__}, not an object")
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    return value


def _damaged(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"{path}: damaged ({error}). Put it back from a copy, or remove its folder and run again"
    )


def object_text(value: Mapping[str, Any]) -> str:
    """The text of a JSON file that people read: sorted keys, indented, no NaN (as in a row)."""
    clean = json.loads(canonical_row(value))
    return json.dumps(clean, sort_keys=True, indent=2, ensure_ascii=True) + "\n"
