"""`opcd-bench verify`: tells whether a sealed run's or suite's files are what they were."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opcd_bench.cli.output import Json, exit_if, print_json, say
from opcd_bench.cli.show import OutputDir
from opcd_bench.store.locate import located


def verify(
    run: Annotated[
        str, typer.Argument(help="Folder of a run or suite, or its name; or a folder of suites.")
    ],
    output_dir: OutputDir = "results",
    json: Json = False,
) -> None:
    """Compare every file with its stored checksum; exit 1 if one is damaged.

    RUN may be a folder of suites too, such as results/reference. Remarks (a run that is not
    finished, a checkpoint that was not kept) are printed, and are no damage.
    """
    from opcd_bench.store import verification

    path = Path(run)
    whole = path.is_dir() and (verification.is_run(path) or bool(verification.suites_in(path)))
    path = path if whole else located(run, output_dir)
    problems = verification.verify(path)
    damaged = [problem for problem in problems if problem.damage]
    if json:
        print_json(
            {
                "path": str(path),
                "damaged": len(damaged),
                "problems": [
                    {"file": str(p.path), "kind": p.kind, "what": p.what, "damage": p.damage}
                    for p in problems
                ],
            }
        )
    else:
        for problem in problems:
            say(problem)
        say(f"{path}: {f'{len(damaged)} damaged' if damaged else 'every checksum holds'}")
    exit_if(bool(damaged))
