"""`opcd-bench contexts`: suites that differ in what teachers were told, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opcd_bench.cli.output import Json, print_json, records
from opcd_bench.cli.show import OutputDir
from opcd_bench.store.files import write_atomic
from opcd_bench.store.locate import located


def contexts(
    suites: Annotated[
        list[str],
        typer.Argument(help="Folders of suites, or names, such as results/experience_selected."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Markdown file to write the table to as well.")
    ] = None,
    output_dir: OutputDir = "results",
    json: Json = False,
) -> None:
    """Compare contexts: what the in-context teacher gains, and what students keep without context.

    Give one suite per context, all run with the same methods, tasks and learning rates.
    """
    from opcd_bench.report.analysis import load
    from opcd_bench.report.tables import markup, plain_text, told_contexts

    folders = [located(suite, output_dir) for suite in suites]
    table = told_contexts.told_contexts([load.load(folder) for folder in folders])
    sections = told_contexts.sections(table)
    if out is not None:
        text = "\n\n".join(map(markup.section_markdown, sections)) + "\n"
        write_atomic(out, text.encode())
    if json:
        print_json({"contexts": records(table)})
        return
    print("\n\n".join(map(plain_text.section_text, sections)))
    if out is not None:
        print(f"\nTable written to {out}")
