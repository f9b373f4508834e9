"""`opcd-bench import-lm-eval`: takes a stock lm_eval run into a suite's comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opcd_bench.cli.output import Json, print_json, say, text_table
from opcd_bench.cli.show import OutputDir
from opcd_bench.store.locate import located


def import_lm_eval(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…",
            help="results_*.json and samples_*.jsonl of `lm_eval run --output_path … "
            "--log_samples`, or the folder that holds them.",
        ),
    ],
    suite: Annotated[str, typer.Option(metavar="SUITE", help="Folder of the suite, or its name.")],
    name: Annotated[
        str, typer.Option(help="Name of the external row; a row of the same name is replaced.")
    ],
    output_dir: OutputDir = "results",
    json: Json = False,
) -> None:
    """Add a stock lm_eval run to a suite's comparison, as an external row."""
    from opcd_bench.report.analysis import external, lm_eval_files

    root = located(suite, output_dir)
    record = lm_eval_files.read(files)
    path, replaced = external.store(root, name, record)
    shown = external.frame(root)
    shown = shown[shown["name"] == name]
    rows = [
        {
            **{key: row[key] for key in ("task", "metric", "filter")},
            "value": row["value"].value,
            "n": row["n"],
            "interval from": row["interval from"] or None,
        }
        for row in shown.to_dict("records")
    ]
    if json:
        print_json(
            {"path": str(path), "replaced": replaced, "model": record["model"], "rows": rows}
        )
        return
    say(f"{'Replaced' if replaced else 'Stored'}: {path} ({record['model']})")
    columns = list(rows[0])
    say(text_table(columns, [[_rounded(row[c]) for c in columns] for row in rows]))
    if not record["samples"]:
        say(
            "No sample log was given, so intervals come from lm_eval's standard error, and there "
            "are no scores by instruction type. To have both, add samples_*.jsonl (lm_eval run … "
            "--log_samples)"
        )
    say(f"The next report will show it: opcd-bench report {root}")


def _rounded(value: object) -> object:
    return round(value, 4) if isinstance(value, float) else value
