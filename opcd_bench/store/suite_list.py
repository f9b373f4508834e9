"""The list of a suite's sealed parts: what shows that one is gone, or was changed afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from opcd_bench.errors import StoreError
from opcd_bench.store.files import (
    LINK,
    Checksum,
    Problem,
    checksum,
    explained,
    write_atomic,
)

SEALED, SUITE = "SEALED", "suite.json"
"""``sha256sum -c SEALED`` reads the list, in the suite's folder."""


def read(root: Path) -> dict[str, tuple[str, ...]]:
    """SHA-256 by relative name; {} without a list, StoreError where it cannot be read.

    suite.json has two where a kill came between the list and the file: either holds.
    """
    path = root / SEALED
    if not path.is_file():
        return {}
    found: dict[str, tuple[str, ...]] = {}
    with explained(path):
        lines = path.read_bytes().decode(errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        key, gap, name = line.partition("  ")
        if len(key) != 64 or not set(key) <= set("0123456789abcdef") or not gap or not name:
            raise StoreError(
                f"{path}, line {number}: no line of a list of checksums, so it was damaged after "
                "it was written: put it back from a copy"
            )
        found[name] = (*found.get(name, ()), key)
    return found


def write(root: Path, listed: Mapping[str, tuple[str, ...]]) -> None:
    """Put the list in place, whole. Hold the suite's lock."""
    lines = [f"{key}  {name}\n" for name in sorted(listed) for key in listed[name]]
    write_atomic(root / SEALED, "".join(lines))


def checksum_of(path: Path) -> str:
    """The SHA-256 of a part; that of no file where it is a link."""
    return LINK.sha256 if path.is_symlink() else checksum(path).sha256


def problems(root: Path) -> list[Problem]:
    """What differs between the list and the suite; a remark where there is no list.

    What a part holds besides (a run's rows, a checkpoint) is its own seal's to say. The replies of
    a told teacher (``shared/told-…``) are no parts: no stored number is read from them.
    """
    where = root / SEALED
    if where.is_symlink():
        what = "changed: a symbolic link in place of the list of the suite's parts"
        return [Problem(where, "changed", what, damage=True)]
    if not where.is_file():
        what = (
            "no list of the suite's sealed parts (an older version made it): a run or shared rows "
            "that were removed since cannot be told"
        )
        return [Problem(where, "no list", what, damage=False)]
    try:
        listed = read(root)
        if not listed:
            raise StoreError(f"{where}: it is empty")
    except StoreError:
        what = "changed: no list of checksums any more"
        return [Problem(where, "changed", what, damage=True)]
    return [problem for name in sorted(listed) for problem in _differs(root / name, listed[name])]


def problems_of(root: Path, part: str) -> list[Problem]:
    """What differs between the list, where there is one, and a part that it has.

    A run that goes on changes list and suite.json one after the other: a difference is read again.
    """
    before: tuple[str, ...] | None = None
    while (listed := read(root).get(part)) is not None:
        found = _differs(root / part, listed)
        if not found or listed == before:
            return found
        before = listed
    return []


def _differs(path: Path, expected: Iterable[str]) -> list[Problem]:
    keys = tuple(expected)
    if path.is_symlink():
        what = "changed: a symbolic link in place of the file"
        return [Problem(path, "changed", what, damage=True)]
    if not path.is_file():
        what = (
            "missing: the suite's list of sealed parts has it. Put it back from a copy; if it was "
            f"removed on purpose, remove {SEALED} too: the next run of the suite lists what is left"
        )
        return [Problem(path, "missing", what, damage=True)]
    found: Checksum = checksum(path)
    if found.sha256 not in keys:
        what = (
            f"changed: SHA-256 {found.sha256[:12]}…, {keys[-1][:12]}… in the suite's list of "
            "sealed parts"
        )
        return [Problem(path, "changed", what, damage=True)]
    return []
