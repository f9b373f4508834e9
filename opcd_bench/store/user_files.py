"""Files that users wrote: regular files of bounded size, as UTF-8 text, JSON or TOML values."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

MOST_BYTES = 64 * 2**20
"""More is not read whole: nobody writes that much by hand."""

DEEPEST = 100
"""Levels of lists and tables in one another: what walks over them calls itself at every level."""


class Unusable(ValueError):
    """What is wrong with a file or its text, in a few words: the caller says which file it is."""


def require_regular(path: Path, most: int | None = MOST_BYTES) -> None:
    """Raise Unusable for a path that is no regular file, of at most ``most`` bytes.

    Before it is opened: a pipe would wait for its writer, and a device never ends.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise Unusable(reason(error)) from None
    if stat.S_ISDIR(status.st_mode):
        raise Unusable("is a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise Unusable("is a pipe or a device, not a file")
    if most is not None and status.st_size > most:
        raise Unusable(f"holds {status.st_size:,} bytes; the most is {most:,}")


def text_of(path: Path, most: int = MOST_BYTES) -> str:
    """The text of a file, without a byte order mark; Unusable where it has none."""
    require_regular(path, most)
    try:
        with path.open("rb") as opened:
            data = opened.read(most + 1)
    except OSError as error:
        raise Unusable(reason(error)) from None
    if len(data) > most:  # files below /proc have no size
        raise Unusable(f"holds more than {most:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unusable(f"not UTF-8 (byte {error.start}); save it as UTF-8") from None


def json_of(text: str) -> Any:
    """The value of a JSON text; Unusable for one that is none, or that nothing could go on with.

    That is: more than `DEEPEST` levels, numbers of thousands of digits, halves of surrogate pairs.
    """
    return _usable(json.loads, text, "JSON")


def toml_of(text: str) -> dict[str, Any]:
    """The table of a TOML text; Unusable as `json_of` raises it."""
    found: dict[str, Any] = _usable(tomllib.loads, text, "TOML")
    return found


def reason(error: Exception) -> str:
    """Why a path cannot be used, in a few words."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    return f"cannot be read: {error}"


def bad_text(text: str) -> str | None:
    """Why a text cannot be a setting, a name or a prompt's: it has no UTF-8, or holds a NUL."""
    if "\0" in text:
        return "it holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"it holds half a surrogate pair (U+{ord(text[error.start]):04X}), which is no text"
    return None


def _usable(parse: Any, text: str, kind: str) -> Any:
    try:
        value = parse(text)
    except RecursionError:
        raise Unusable(_too_deep(kind)) from None
    except ValueError as error:
        if "integer string conversion" in str(error):
            raise Unusable("a number has too many digits") from None
        raise Unusable(f"not valid {kind}: {error}") from None
    if problem := _unusable(value, kind):
        raise Unusable(problem)
    return value


def _unusable(value: Any, kind: str) -> str | None:
    level = [value]
    for _ in range(DEEPEST + 1):
        if not level:
            return None
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += [*one, *one.values()]
            elif isinstance(one, list):
                below += one
            elif isinstance(one, str) and (problem := _half(one)):
                return problem
        level = below
    return _too_deep(kind)


def _half(text: str) -> str | None:
    return None if text.isascii() else bad_text(text.replace("\0", ""))


def _too_deep(kind: str) -> str:
    return f"{kind} nested more than {DEEPEST} levels deep"


def is_path_error(error: OSError) -> bool:
    """Whether the system refused a path that somebody gave: its name, its kind, its permissions."""
    return error.filename is not None and not isinstance(error.filename, int)


def shown(path: object, most: int = 120) -> str:
    """A path as a message shows it: its two ends, where it is long."""
    text = os.fsdecode(path) if isinstance(path, bytes | os.PathLike) else str(path)
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"
