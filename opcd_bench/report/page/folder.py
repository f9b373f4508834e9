"""A rendered report's folder: only changed files are written, and those of a former one go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from opcd_bench.errors import StoreError
from opcd_bench.hashing import bytes_digest
from opcd_bench.store.files import (
    LOCK,
    checksum,
    explained,
    is_temporary,
    remove_temporaries,
    write_atomic,
)
from opcd_bench.store.jsonl import object_text, read_object
from opcd_bench.store.lease import Lease

MANIFEST = "report.json"
PAGE = "index.html"
REPORTS, RESULTS = "reports", "results"
KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WrittenFiles:
    """What a rendering changed in its folder, by relative name."""

    page: Path
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: int


def default_out(suite: Path) -> Path:
    """Where a suite's report goes: in ``reports/`` beside the ``results/`` that it lies in.

    ``results/quick`` -> ``reports/quick``, ``results/reference/micro`` ->
    ``reports/reference/micro``. A suite in no folder of that name gets ``reports/<suite>`` beside
    itself, so that nothing is written elsewhere.
    """
    whole = suite.resolve()
    out = whole.parent / REPORTS / whole.name
    for above in (1, 2):
        if len(whole.parts) > above + 1 and whole.parts[-1 - above] == RESULTS:
            out = Path(*whole.parts[: -1 - above], REPORTS, *whole.parts[-above:])
    return out.relative_to(Path.cwd()) if out.is_relative_to(Path.cwd()) else out


def write(folder: Path, files: Mapping[str, bytes]) -> WrittenFiles:
    """Make ``folder`` hold this rendering; every file whole or as it was, whenever it is killed.

    ``report.json`` lists what is ours (relative name -> SHA-256), so that files of a former
    rendering go and a user's own stay. StoreError for a folder that holds something else, or for a
    user's own file in the place of one of ours.
    """
    refuse_foreign(folder)
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with Lease(folder / LOCK, wait=True) as lease:
        remove_temporaries(folder)
        former = _listed(folder)
        _refuse_own(folder, files, former)
        new = {name: bytes_digest(data) for name, data in sorted(files.items())}
        stale = sorted(set(former) - set(new))
        changed = [name for name in new if not _holds(folder / name, new[name], files[name])]
        if changed or stale or former != new:
            lease.check()
            _write_manifest(folder, {**former, **new})  # a kill leaves no file that is in no list
        # The page goes last: until then the old one stands, whole.
        for name in sorted(changed, key=lambda name: (name == PAGE, name)):
            lease.check()
            write_atomic(folder / name, files[name])
        for name in stale:
            lease.check()
            _remove(folder, name)
        if _listed(folder) != new:
            lease.check()
            _write_manifest(folder, new)
    return WrittenFiles(folder / PAGE, tuple(changed), tuple(stale), len(new) - len(changed))


def refuse_foreign(folder: Path) -> None:
    """Raise StoreError where ``folder`` holds something that is no report of ours."""
    ways = "Give another folder with --out"
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder}: is a file, and the report needs a folder of that name. {ways}")
    with explained(folder):
        names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    names = [name for name in names if not is_temporary(name)]
    if names and not _is_ours(folder):
        raise StoreError(
            f"{folder}: has files ({', '.join(names[:3])}{' …' if len(names) > 3 else ''}) but no "
            f"{MANIFEST} of ours, so it is no report of opcd-bench and nothing is written into it. "
            f"{ways}"
        )


def _is_ours(folder: Path) -> bool:
    """Whether the list of a report lies there: names and SHA-256, and nothing else."""
    if not (folder / MANIFEST).is_file():
        return False
    stored = read_object(folder / MANIFEST)
    files = stored.get("files")
    if set(stored) != {"files"} or not isinstance(files, dict):
        return False
    return all(isinstance(key, str) and KEY.fullmatch(key) for key in files.values())


def _listed(folder: Path) -> dict[str, str]:
    if not (folder / MANIFEST).is_file():
        return {}
    stored = read_object(folder / MANIFEST)
    return {str(name): str(key) for name, key in dict(stored.get("files", {})).items()}


def _write_manifest(folder: Path, files: Mapping[str, str]) -> None:
    write_atomic(folder / MANIFEST, object_text({"files": dict(sorted(files.items()))}))


def _refuse_own(folder: Path, files: Mapping[str, bytes], former: Mapping[str, str]) -> None:
    own = [name for name in sorted(files) if name not in former and (folder / name).exists()]
    if own:
        raise StoreError(
            f"{folder / own[0]}: the report has a file of that name, and this one is not from it. "
            "Move it away, or give another folder with --out"
        )


def _holds(path: Path, key: str, data: bytes) -> bool:
    """Whether a file is there with these bytes already."""
    return path.is_file() and path.stat().st_size == len(data) and checksum(path).sha256 == key


def _remove(folder: Path, name: str) -> None:
    """Remove a file of ours, and the folders that it leaves empty."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise StoreError(f"{folder / MANIFEST}: names {name!r}, which is not in this folder")
    with explained(path):
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == folder or not parent.is_dir() or any(parent.iterdir()):
                break
            parent.rmdir()
