"""Where a run or a suite lies that is given by its folder or by its name."""

from __future__ import annotations

import difflib
from pathlib import Path

from opcd_bench.errors import StoreError, UnknownName
from opcd_bench.store.run_reader import CONFIG
from opcd_bench.store.suite_dir import SuiteDir, is_ours, is_suite

REFERENCE = "reference"
"""The folder below the results whose sealed runs ship with the source."""


def located(run: str, output_dir: str) -> Path:
    """The folder of a run or suite given by path or by name (or the start of a run's name).

    Raises StoreError for a folder that is neither, UnknownName where nothing has the name.
    """
    path = Path(run)
    if path.exists():
        if _is_stored(path):
            return path
        raise StoreError(
            f"{run} is neither a run (no {CONFIG}) nor a suite (no suite.json); give the folder "
            f"of one, such as {output_dir}/quick"
        )
    suites = [
        folder
        for root in (Path(output_dir), Path(output_dir) / REFERENCE)
        if root.is_dir()
        for folder in sorted(root.iterdir())
        if is_suite(folder) and is_ours(folder)
    ]
    runs = [folder for suite in suites for folder in SuiteDir(suite).runs()]
    whole = [folder for folder in (*suites, *runs) if folder.name == run]
    found = whole or [folder for folder in runs if run and folder.name.startswith(run)]
    if not found:
        beside = path.parent.iterdir() if path.parent.is_dir() and path.parent != Path() else ()
        known = {folder.name for folder in (*suites, *runs)}
        known |= {str(folder) for folder in beside if _is_stored(folder)}
        if not known:
            hint = (
                f"There are no results in {output_dir}; give the folder of a run or suite, or run "
                "one: opcd-bench run --suite quick"
            )
        else:
            hint = "The runs of a suite: opcd-bench show SUITE"
        if len(known) > 20:  # too many to list
            known = set(_near(run, known)) or {folder.name for folder in suites}
        raise UnknownName("run or suite", run, known, hint)
    if len(found) > 1:
        listing = "\n".join(f"  {folder}" for folder in found)
        raise StoreError(
            f"{run!r} is the name of {len(found)} folders; give the path of one:\n{listing}"
        )
    return found[0]


def _near(run: str, known: set[str]) -> list[str]:
    """The names that are like a word, or else the first that hold it."""
    close = difflib.get_close_matches(run, known, cutoff=0.5)
    return close or [name for name in sorted(known) if run and run.lower() in name.lower()][:3]


def _is_stored(path: Path) -> bool:
    return path.is_dir() and (is_suite(path) or (path / CONFIG).is_file())
