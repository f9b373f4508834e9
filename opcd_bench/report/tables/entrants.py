"""The table of what was scored and not trained here, as text below the comparison's."""

from __future__ import annotations

import pandas as pd

from opcd_bench.report.analysis import entrants
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.analysis.statistics import Interval

HEADING = "Scored and not trained here (no methods of this comparison)"


def as_text(results: StoredResults) -> str:
    """The table, in percent or nats, or nothing where no model was entered."""
    table = entrants.frame(results)
    if table.empty:
        return ""
    shown = [name for name in table.columns if isinstance(table[name].iloc[0], Interval)]
    inside = entrants.in_nats(results, shown)
    heads = ["task", "name", "learning rate", "seeds"]
    heads += [f"{name} (nats)" if name in inside else name for name in shown]
    rows = [heads] + [
        [
            str(row["task"]),
            str(row["name"]),
            "" if pd.isna(row["learning_rate"]) else f"{row['learning_rate']:g}",
            str(row["seeds"]),
            *(_shown(row[name], nats=name in inside) for name in shown),
        ]
        for row in table.to_dict("records")
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([HEADING, *(line.rstrip() for line in lines)])


def _shown(value: object, *, nats: bool) -> str:
    if not isinstance(value, Interval):
        return "–"
    return value.text() if nats else value.points()
