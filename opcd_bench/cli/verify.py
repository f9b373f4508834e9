"""`opcd-bench verify`: tells whether a sealed run's or suite's files are what they were."""

from __future__ import annotations

from typing import Annotated

import typer

from opcd_bench.cli.output import Json, exit_if, print_json
from opcd_bench.cli.show import OutputDir
from opcd_bench.store.locate import located


def verify(
    run: Annotated[str, typer.Argument(help="Folder of a run or suite, or its name.")],
    output_dir: OutputDir = "results",
    json: Json = False,
) -> None:
    """Compare every file with its stored checksum; exit 1 if one is damaged."""
    from opcd_bench.store import verification

    path = located(run, output_dir)
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
            print(problem)
        print(f"{path}: {f'{len(damaged)} damaged' if damaged else 'every checksum holds'}")
    exit_if(bool(damaged))
