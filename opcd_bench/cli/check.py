"""`opcd-bench check`: tests a contributed method or task file against its contract."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from opcd_bench.cli.output import Json, exit_if, print_json, say


def check(
    file: Annotated[Path, typer.Argument(help="A method or task file, wherever it lies.")],
    data_dir: Annotated[
        str | None, typer.Option(help="Folder with local data files, in place of the Hub.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=10, metavar="SECONDS", help="How long one contract may take.")
    ] = 300.0,
    json: Json = False,
) -> None:
    """Test a method or task file against its contract, line by line; exit 1 if it breaks it.

    The file runs in a process of its own, so that code that hangs or ends it is found too.
    """
    from opcd_bench.runner.contracts import checks

    found = []
    for result in checks.checked_apart(file, data_dir, time_limit):
        found.append(result)
        if not json:
            mark = "ok  " if result.passed else "FAIL"
            detail = f": {result.detail}" if result.detail else ""
            say(f"{mark}  {result.says}{detail}", flush=True)
    failed = sum(not result.passed for result in found)
    if json:
        print_json({"file": str(file), "failed": failed, "results": [asdict(r) for r in found]})
    else:
        say(f"\n{file}: {len(found) - failed} of {len(found)} contracts kept")
    exit_if(failed > 0)
