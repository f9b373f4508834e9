"""`opcd-bench contexts`: suites that differ in what teachers were told, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opcd_bench.cli.output import Json, print_json, records
from opcd_bench.store.files import write_atomic


def contexts(
    suites: Annotated[
        list[Path], typer.Argument(help="Folders of suites, such as results/experience_selected.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Markdown file to write the table to as well.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare contexts: what the in-context teacher gains, and what students keep without context.

    Give one suite per context, all run with the same methods, tasks and learning rates.
    """
    from opcd_bench.report.analysis import load
    from opcd_bench.report.tables import markup, plain_text, told_contexts

    table = told_contexts.told_contexts([load.load(folder) for folder in suites])
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
