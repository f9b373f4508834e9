"""`opcd-bench compare`: two finished runs against each other, in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opcd_bench.cli.output import Json, plain, print_json, say, text_table
from opcd_bench.cli.show import OutputDir
from opcd_bench.errors import StoreError
from opcd_bench.store import environment
from opcd_bench.store.locate import located
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import is_suite


def compare(
    first: Annotated[
        str, typer.Argument(help="Folder of a run, or its name, or the start of its name.")
    ],
    second: Annotated[str, typer.Argument(help="The other run, given in the same way.")],
    output_dir: OutputDir = "results",
    json: Json = False,
) -> None:
    """Compare the final scores of two runs, paired by example, and list settings that differ."""
    from opcd_bench.report.analysis import statistics, two_runs

    paths = [_run(word, output_dir) for word in (first, second)]
    if paths[0].resolve() == paths[1].resolve():
        raise StoreError(f"{paths[0]} was given twice; give two different runs")
    table = two_runs.compare(*paths)
    configs = [RunReader(path).config for path in paths]
    settings = environment.differences(*configs)
    rows = [{str(k): plain(v) for k, v in row.items()} for row in table.to_dict("records")]
    how = statistics.method(table["difference"])
    if json:
        runs = {"first": str(paths[0]), "second": str(paths[1])}
        print_json({**runs, "settings": settings, "scores": rows, "method": how})
        return
    for label, path in zip(("first ", "second"), paths, strict=True):
        say(f"{label}  {path}")
    columns = ["measured", "first", "second", "first - second", "p", "n"]
    lines = [
        [
            row["measured"] if row["split"] == two_runs.TEST else f"{row['measured']} (retention)",
            row["first"].points(),
            row["second"].points(),
            row["difference"].points(),
            f"{row['p']:.4f}",
            row["n"],
        ]
        for row in table.to_dict("records")
    ]
    say(f"\n{text_table(columns, lines)}")
    say(
        f"\nIn %, paired by example. Intervals: {how}. p: two-sided permutation test, not "
        "corrected for the number of rows. Each run was trained once, so neither intervals nor p "
        "include seed variance."
    )
    say("\nsettings that differ (first -> second)")
    say("\n".join(f"  {line}" for line in settings) or "  none")


def _run(word: str, output_dir: str) -> Path:
    path = located(word, output_dir)
    if is_suite(path):
        raise StoreError(
            f"{path} is a suite, not a run; to compare its runs, type: opcd-bench report {path}"
        )
    return path
