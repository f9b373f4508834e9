"""Whether the results of a suite have changed, and whether anything is left to come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from opcd_bench.report.analysis import headline
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.store.files import is_temporary
from opcd_bench.store.run_reader import CHECKPOINTS

Signature = frozenset[tuple[str, int, int]]


def signature(root: Path) -> Signature:
    """Name, size (bytes) and time of change (ns) of every stored file but the checkpoints'."""
    return frozenset(_files(root, root))


def _files(folder: Path, root: Path) -> Iterator[tuple[str, int, int]]:
    for path in folder.iterdir():
        if is_temporary(path.name) or path.name == CHECKPOINTS:
            continue
        try:
            if path.is_dir():
                yield from _files(path, root)
            else:
                stat = path.stat()
                yield path.relative_to(root).as_posix(), stat.st_size, stat.st_mtime_ns
        except FileNotFoundError:  # a grid removed it in between
            continue


def finished(results: StoredResults) -> bool:
    """Whether every cell that suite.json asks for is done, the headline rates' seeds too."""
    states = headline.headline(results)["state"]
    return bool(len(states)) and bool((states == "done").all())
