"""`opcd-bench compare`: two finished runs against each other, in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opcd_bench.cli.output import Json, plain, print_json, say, text_table
from opcd_bench.cli.show import OutputDir
from opcd_bench.config.measures import NATS
from opcd_bench.errors import StoreError
from opcd_bench.store import environment
from opcd_bench.store.locate import located
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import is_suite

if TYPE_CHECKING:
    from opcd_bench.report.analysis.statistics import Interval


def compare(
    first: Annotated[
        str, typer.Argument(help="Folder of a run, or its name, or the start of its name.")
    ],
    second: Annotated[str, typer.Argument(help="The other run, given in the same way.")],
    output_dir: OutputDir = "results",
    json: Json = False,
) -> None:
    """Compare all final scores that two runs share, and list settings that differ.

    Test, retention with drift and held-out losses, and further test sets, paired by example.
    """
    from opcd_bench.report.analysis import statistics, two_runs

    paths = [_run(word, output_dir) for word in (first, second)]
    if paths[0].resolve() == paths[1].resolve():
        raise StoreError(f"{paths[0]} was given twice; give two different runs")
    table, missing = two_runs.compare(*paths)
    configs = [RunReader(path).config for path in paths]
    settings = environment.differences(*configs)
    rows = [{str(k): plain(v) for k, v in row.items()} for row in table.to_dict("records")]
    how = statistics.method(table["difference"])
    if json:
        runs = {"first": str(paths[0]), "second": str(paths[1])}
        only = dict(zip(("first", "second"), missing, strict=True))
        print_json({**runs, "settings": settings, "scores": rows, "only": only, "method": how})
        return
    for label, path in zip(("first ", "second"), paths, strict=True):
        say(f"{label}  {path}")
    columns = ["measured", "first", "second", "first - second", "p", "n"]
    lines = [
        [
            two_runs.called(row["measured"], row["split"]),
            *(_shown(row[column], row["split"]) for column in ("first", "second", "difference")),
            f"{row['p']:.4f}",
            row["n"],
        ]
        for row in table.to_dict("records")
    ]
    say(f"\n{text_table(columns, lines)}")
    for which, names in zip(("first", "second"), missing, strict=True):
        if names:
            say(f"\nscored of the {which} alone: {', '.join(names)}")
    say(
        f"\nIn %, or in nats where a row says so, paired by example. Intervals: {how}. p: "
        "two-sided permutation test, not corrected for the number of rows. Each run was trained "
        "once, so neither intervals nor p include seed variance."
    )
    say("\nsettings that differ (first -> second)")
    say("\n".join(f"  {line}" for line in settings) or "  none")


def _shown(interval: Interval, split: str) -> str:
    return interval.text() if split == NATS else interval.points()


def _run(word: str, output_dir: str) -> Path:
    path = located(word, output_dir)
    if is_suite(path):
        raise StoreError(
            f"{path} is a suite, not a run; to compare its runs, type: opcd-bench report {path}"
        )
    return path
