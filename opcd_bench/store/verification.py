"""Verification: whether what is stored is still what was written."""

from __future__ import annotations

from pathlib import Path

from opcd_bench.errors import StoreError
from opcd_bench.store import chain_dir, checkpoints
from opcd_bench.store.files import Checksum, Problem, checksums, compare
from opcd_bench.store.jsonl import read_object
from opcd_bench.store.run_reader import CHECKPOINTS, CONFIG, DONE, FAILED
from opcd_bench.store.suite_dir import SUITE, SharedDir, SuiteDir, is_suite


def verify(path: Path) -> list[Problem]:
    """What is wrong with a run, a suite (its runs, shared folders and rounds), or a folder of them.

    A sealed run is checked against DONE: changed, missing and extra files. A run that is not
    sealed, failed, or was kept without its checkpoints is reported with ``damage=False``.
    StoreError where there is nothing of ours at ``path``.
    """
    if not path.is_dir():
        raise StoreError(f"{path}: no such folder; give a run, or a suite such as results/quick")
    if (path / CONFIG).is_file():
        return _run_problems(path)
    if any(path.glob("*.sha256")):
        return SharedDir(path).problems()
    if is_suite(path):
        return _suite_problems(SuiteDir(path))
    suites = [below for below in sorted(path.iterdir()) if below.is_dir() and is_suite(below)]
    if not suites:
        raise StoreError(
            f"{path} is neither a run (no {CONFIG}) nor a suite (no {SUITE}); give the folder of "
            "one, such as results/quick"
        )
    return [problem for suite in suites for problem in _suite_problems(SuiteDir(suite))]


def _suite_problems(suite: SuiteDir) -> list[Problem]:
    wrong: list[Problem] = []
    try:
        suite.read()
    except StoreError:
        what = "changed: it can no longer be read"
        wrong.append(Problem(suite.path / SUITE, "changed", what, damage=True))
    for run in suite.runs():
        wrong += _run_problems(run)
    for shared in suite.all_shared():
        wrong += shared.problems()
    for chain in chain_dir.chains(suite.path):
        for run in chain.runs():
            wrong += _suite_problems(SuiteDir(run.parent))
    return wrong


def _run_problems(path: Path) -> list[Problem]:
    if not (path / DONE).is_file():
        kept = checkpoints.found(path / CHECKPOINTS)
        wrong = [problem for kept_one in kept for problem in checkpoints.problems(kept_one.path)]
        if (path / FAILED).is_file():
            why = read_object(path / FAILED).get("reason", "no reason stored")
            return [Problem(path, "failed", f"failed: {why}", damage=False), *wrong]
        return [Problem(path, "unsealed", "not finished, so not sealed", damage=False), *wrong]
    try:
        done = read_object(path / DONE)
        listed = checkpoints.read_listing(done, path / DONE)
        kept_hashes = dict(done["checkpoints"])
    except (StoreError, KeyError, TypeError, ValueError):
        return [Problem(path / DONE, "changed", "changed: this is no longer a seal", damage=True)]
    return compare(path, listed, contents(path)) + _checkpoint_problems(path, kept_hashes)


def contents(path: Path) -> dict[str, Checksum]:
    """The checksums of a run's files, all but the seal and what the checkpoints' manifests list."""
    return checksums(path, skip=lambda name: name == DONE or name.startswith(f"{CHECKPOINTS}/"))


def _checkpoint_problems(path: Path, listed: dict[str, str]) -> list[Problem]:
    wrong = []
    for name, expected in sorted(listed.items()):
        folder = path / CHECKPOINTS / name
        if not folder.is_dir():
            wrong.append(
                Problem(folder, "no checkpoint", "this checkpoint is not here", damage=False)
            )
        elif not (folder / checkpoints.MANIFEST).is_file():
            wrong.append(Problem(folder / checkpoints.MANIFEST, "missing", "missing", damage=True))
        elif checkpoints.manifest_hash(checkpoints.Checkpoint(0, folder)) != expected:
            what = "changed: its SHA-256 is not the one in the seal"
            wrong.append(Problem(folder / checkpoints.MANIFEST, "changed", what, damage=True))
        else:
            wrong += checkpoints.problems(folder)
    for extra in checkpoints.found(path / CHECKPOINTS):
        if extra.path.name not in listed:
            what = "left over because the run was killed while it was being sealed; it may be "
            "removed"
            wrong.append(Problem(extra.path, "extra", what, damage=False))
    return wrong
