"""From a suite's folder to its report: read, rendered, written."""

from __future__ import annotations

import shlex
from pathlib import Path

from opcd_bench.report.analysis import load
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.page import folder, render
from opcd_bench.report.page.folder import WrittenFiles


def make(path: Path, where: Path) -> tuple[StoredResults, WrittenFiles]:
    """Render the suite at ``path`` into ``where``: what was read, and what it changed there.

    Raises StoreError where the results cannot be compared or the folder is not a report's.
    """
    folder.refuse_foreign(where)
    results = load.load(path)
    return results, folder.write(where, render.render(results, command=command(path, where)))


def command(path: Path, where: Path) -> str:
    """What to type to make the report of ``path`` in ``where`` again."""
    words = ["opcd-bench", "report", str(path)]
    if where != folder.default_out(path):
        words += ["--out", str(where)]
    return shlex.join(words)
