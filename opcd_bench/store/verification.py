"""Verification: whether what is stored is still what was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from opcd_bench.errors import StoreError
from opcd_bench.store import chain_dir, checkpoints, suite_list
from opcd_bench.store.files import (
    Checksum,
    Problem,
    checksums,
    compare,
    is_temporary,
    leftovers,
)
from opcd_bench.store.jsonl import read_object
from opcd_bench.store.run_reader import CHECKPOINTS, CONFIG, DONE, FAILED
from opcd_bench.store.suite_dir import (
    ADAPTED,
    EXTERNAL,
    SHARED,
    SharedDir,
    SuiteDir,
    is_ours,
    is_suite,
)
from opcd_bench.store.suite_list import SEALED, SUITE

OURS = (
    SUITE, SEALED, SHARED, EXTERNAL, ADAPTED, chain_dir.ROUNDS, chain_dir.EXPERIENCE, "trackers",
)  # fmt: skip
"""What a suite's folder holds besides runs."""


def verify(path: Path) -> list[Problem]:
    """What is wrong with a run, a suite (its runs, shared folders and rounds), or a folder of them.

    A suite is checked against its list of sealed parts, a sealed run against DONE (and DONE against
    the list of the suite that it lies in): changed, missing and extra files. A run that is not
    sealed, failed, or was kept without its checkpoints, a suite of an older version, which has no
    list, and what a kill left are reported with ``damage=False``. StoreError where there is nothing
    of ours at ``path``.
    """
    if not path.is_dir():
        raise StoreError(f"{path}: no such folder; give a run, or a suite such as results/quick")
    if is_suite(path):
        return _suite_problems(SuiteDir(path))
    if is_run(path):
        return _listed_seal(path) + _run_problems(path) + leftovers(path)
    if any(path.glob("*.sha256")):
        return SharedDir(path).problems()
    suites = suites_in(path)
    if not suites:
        raise StoreError(
            f"{path} is neither a run (no {CONFIG}) nor a suite (no {SUITE}); give the folder of "
            "one, such as results/quick"
        )
    return [problem for suite in suites for problem in _suite_problems(SuiteDir(suite))]


def is_run(path: Path) -> bool:
    """Whether a folder is a run's, or what is left of one."""
    return (path / CONFIG).is_file() or (path / DONE).is_file()


def suites_in(path: Path) -> list[Path]:
    """The suites in a folder of suites, and in the folders of suites there (``reference/``)."""
    below = sorted(folder for folder in path.iterdir() if folder.is_dir())
    deeper = [two for one in below if not is_suite(one) for two in sorted(one.iterdir())]
    found = [folder for folder in (*below, *deeper) if folder.is_dir() and is_suite(folder)]
    return [folder for folder in found if is_ours(folder)]


def _suite_problems(suite: SuiteDir) -> list[Problem]:
    wrong: list[Problem] = []
    try:
        read_object(suite.path / SUITE)
    except StoreError:
        what = "changed: it can no longer be read"
        wrong.append(Problem(suite.path / SUITE, "changed", what, damage=True))
    adapted = sorted(path for path in (suite.path / ADAPTED).glob("*") if is_run(path))
    for run in [*_runs(suite), *adapted]:
        wrong += _run_problems(run)
    for shared in suite.all_shared():
        wrong += shared.problems()
    told = {problem.path for problem in wrong}
    wrong += [one for one in suite_list.problems(suite.path) if one.path not in told]
    for chain in chain_dir.chains(suite.path):
        for round_dir in chain.rounds():
            wrong += _suite_problems(round_dir)
    wrong += _strangers(suite)
    return wrong + [one for one in leftovers(suite.path) if one not in wrong]


def _runs(suite: SuiteDir) -> Iterator[Path]:
    """The suite's runs, also those that have lost their config.json."""
    for folder in sorted(suite.path.iterdir()):
        if folder.name not in OURS and folder.is_dir() and is_run(folder):
            yield folder


def _strangers(suite: SuiteDir) -> list[Problem]:
    """What lies in a suite's folder and is nothing of it."""
    runs = set(_runs(suite))
    what = "not of this suite; nothing reads it"
    return [
        Problem(path, "extra", what, damage=False)
        for path in sorted(suite.path.iterdir())
        if path.name not in OURS and path not in runs and not is_temporary(path.name)
    ]


def _listed_seal(path: Path) -> list[Problem]:
    """What the list of the suite that a run lies in says of its seal."""
    if not is_suite(path.parent):
        return []
    return [one for one in suite_list.problems(path.parent) if one.path == path / DONE]


def _run_problems(path: Path) -> list[Problem]:
    if path.is_symlink():
        what = "changed: a symbolic link in place of the folder"
        return [Problem(path, "changed", what, damage=True)]
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
    if (path / DONE).is_symlink():
        what = "changed: a symbolic link in place of the file"
        return [Problem(path / DONE, "changed", what, damage=True)]
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
    folder = path / CHECKPOINTS
    whole = {checkpoint.path for checkpoint in checkpoints.found(folder)}
    for extra in sorted(folder.iterdir()) if folder.is_dir() else ():
        if extra.name in listed or is_temporary(extra.name):
            continue
        what = "not in the seal; nothing reads it"
        if extra in whole:
            what = "left over from a kill while the run was sealed; the suite's next run removes it"
        wrong.append(Problem(extra, "extra", what, damage=False))
    return wrong
