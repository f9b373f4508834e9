"""What killed writers left in a suite's folder goes, when the suite is run again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from opcd_bench.errors import StoreError
from opcd_bench.store import chain_dir, checkpoints
from opcd_bench.store.files import LOCK, is_leftover, leftovers, remove_folder
from opcd_bench.store.files import remove_temporaries as remove_in
from opcd_bench.store.jsonl import read_object
from opcd_bench.store.lease import Lease
from opcd_bench.store.run_reader import CHECKPOINTS, DONE
from opcd_bench.store.suite_dir import ADAPTED, SuiteDir


def tidy(suite: SuiteDir) -> list[Path]:
    """Remove half-written files and what sealed runs were not to keep, here and in the rounds.

    Those of adapted teachers too.
    Only names that we alone give, and nothing that is being written; what was removed. Nothing that
    is sealed is touched, and nothing at all where nothing was left.
    """
    if not suite.path.is_dir():
        return []
    rounds = [one for chain in chain_dir.chains(suite.path) for one in chain.rounds()]
    removed = []
    for folder in (suite, *rounds):
        for run in (*folder.runs(), *(folder.path / ADAPTED).glob("*")):
            removed += _checkpoints(run)
    # A folder is half a checkpoint, and so a run's; every file's writer holds it.
    for place in {one.path.parent for one in leftovers(suite.path) if one.path.is_file()}:
        removed += [place / name for name in remove_in(place, folders=False)]
    return sorted(removed)


def _checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a sealed run that were to go when a kill came between."""
    doomed = list(_not_kept(run))
    if not doomed:
        return []
    try:
        with Lease(run / LOCK) as lease:
            for path in doomed:
                if path.is_dir() and not is_leftover(path.name):
                    lease.check()
                    remove_folder(path)
            lease.check()
            remove_in(run / CHECKPOINTS)
    except StoreError:  # the run is just removing them itself, or this is no disk to write on
        return []
    return doomed


def _not_kept(run: Path) -> Iterator[Path]:
    folder = run / CHECKPOINTS
    if not (run / DONE).is_file() or not folder.is_dir():
        return
    kept = read_object(run / DONE).get("checkpoints")
    if not isinstance(kept, dict):
        return  # damaged: for verify to tell
    for one in checkpoints.found(folder):
        if one.path.name not in kept:
            yield one.path
    for path in folder.iterdir():
        if is_leftover(path.name):
            yield path
