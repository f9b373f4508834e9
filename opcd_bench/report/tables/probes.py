"""What tasks ask beside test: a table a task, further test sets across, methods down."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from opcd_bench.report.analysis import statistics
from opcd_bench.report.analysis.load import load
from opcd_bench.report.analysis.probes import BASE, CEILING, probes
from opcd_bench.report.tables.layout import Group, Section, Value, percent
from opcd_bench.report.tables.plain_text import section_text

NOTE = (
    "Accuracy in % of n examples, scored once, at the step and learning rate at which the method "
    "is compared. base: the student before training, which reads what the set reads. ceiling: the "
    "in-context teacher, on sets that are asked without context. floor: the best score of a few "
    "policies that read neither the context nor what the set reads, on the same examples."
)


def sections(frame: pd.DataFrame) -> list[Section]:
    """`probes` as tables; none where it is empty."""
    return [_section(str(task), rows) for task, rows in frame.groupby("task", sort=False)]


def _section(task: str, rows: pd.DataFrame) -> Section:
    names = list(dict.fromkeys(rows["probe"]))
    scores = {(row.method, row.probe): row.score for row in rows.itertuples()}
    rates = {row.method: row.learning_rate for row in rows.itertuples()}

    def line(method: str) -> tuple[Value, ...]:
        rate = rates[method]
        shown = "" if pd.isna(rate) else f"{rate:g}"
        return (method, shown, *(scores.get((method, name), "") for name in names))

    methods = sorted(dict.fromkeys(rows["method"]), key=lambda name: name not in (BASE, CEILING))
    floor = {row.probe: row.floor for row in rows.itertuples()}
    lowest = tuple(percent(floor[name]) for name in names)
    over = (("floor", "", *lowest),) if any(lowest) else ()
    lines = (*over, *(line(method) for method in methods))
    counts = {row.probe: row.score.examples for row in rows.itertuples()}
    columns = ("method", "learning rate", *(f"{name} (n = {counts[name]})" for name in names))
    clustered = statistics.widest(rows["score"]).clusters
    notes = (NOTE, f"{statistics.CLUSTERED}.") if clustered else (NOTE,)
    return Section(f"{task}: further test sets", columns, (Group("", lines),), notes)


def as_text(root: Path) -> str:
    """The tables of a stored suite for a terminal; empty where its tasks have no such sets."""
    return "\n\n".join(map(section_text, sections(probes(load(root)))))
