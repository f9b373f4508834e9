"""`opcd-bench report`: the comparison of a suite as a page, tables, figures and data."""

from __future__ import annotations

import sys
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from opcd_bench.cli.output import Json, print_json
from opcd_bench.cli.show import OutputDir
from opcd_bench.errors import StoreError
from opcd_bench.store.locate import located
from opcd_bench.store.suite_dir import is_suite

if TYPE_CHECKING:
    from opcd_bench.report.analysis.load import StoredResults
    from opcd_bench.report.page.folder import WrittenFiles


def report(
    suite: Annotated[str, typer.Argument(help="Folder of a suite, or its name.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the report (default: reports/NAME for results/NAME)."),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Render again whenever there are new results, until ctrl-C."),
    ] = False,
    every: Annotated[
        float,
        typer.Option(min=0.1, metavar="SECONDS", help="Seconds between the looks of --watch."),
    ] = 5.0,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    output_dir: OutputDir = "results",
    json: Json = False,
) -> None:
    """Render stored results as a page, tables, figures and data; no result changes."""
    path = located(suite, output_dir)
    if not is_suite(path):
        raise StoreError(
            f"{path} is a run, not a suite; to compare the runs of its suite, type: "
            f"opcd-bench report {path.parent}"
        )
    from opcd_bench.report.page import folder, watching
    from opcd_bench.report.page.make import make

    where = out if out is not None else folder.default_out(path)
    seen = watching.signature(path) if watch else None
    results: StoredResults | None
    results, written = make(path, where)
    try:
        _tell(written, json)
        if open_page:
            webbrowser.open(written.page.resolve().as_uri())
        while watch and (results is None or not watching.finished(results)):
            time.sleep(every)
            now = watching.signature(path)
            if now != seen:
                seen, results = now, _again(path, where, json)
    except KeyboardInterrupt:
        print("\nNo longer watching; the page stays.", file=sys.stderr)
        return
    if watch:
        print("Every cell of the suite is done, so nothing is left to watch.", file=sys.stderr)


def _again(path: Path, where: Path, json: bool) -> StoredResults | None:
    """Render once more while a grid writes; what cannot be read now waits for the next change."""
    from opcd_bench.report.page.make import make

    try:
        results, written = make(path, where)
    except StoreError as error:
        print(f"opcd-bench: {error}", file=sys.stderr)
        return None
    if written.changed or written.removed:
        _tell(written, json)
    return results


def _tell(written: WrittenFiles, json: bool) -> None:
    counts = {"changed": len(written.changed), "unchanged": written.unchanged}
    counts |= {"removed": len(written.removed)}
    if json:
        print_json({"page": str(written.page), **counts})
    else:
        print(
            f"Report: {written.page} ({counts['changed']} files written, {counts['unchanged']} "
            f"unchanged, {counts['removed']} removed)",
            flush=True,
        )
