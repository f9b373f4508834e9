"""The comparison's table as text and CSV; `markup` has its other forms, all from one data frame."""

from __future__ import annotations

import csv
import io
import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from opcd_bench.printable import csv_text
from opcd_bench.report.analysis import discrimination, groups
from opcd_bench.report.analysis.headline import headline
from opcd_bench.report.analysis.load import load
from opcd_bench.report.analysis.reached import Reached
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.tables import separation
from opcd_bench.report.tables.layout import KEYS, Section, Value, caption, sections

WIDTH = 160
"""Columns of the terminal that the text is meant for."""
NUMBER = re.compile(r"[-–]?[\d,]*\.?\d*")


def headline_text(root: Path) -> str:
    """The headline table of stored results, as text, and which methods are separated."""
    results = load(root)
    table = headline(results)
    pairs = discrimination.pairs(results)
    apart = separation.sections(
        discrimination.summary(results, pairs), groups.groups(results, pairs)
    )
    return as_text(table, apart)


def as_text(table: pd.DataFrame, others: Sequence[Section] = ()) -> str:
    """The headline table for a terminal: gains, then retention, a block a task; and its caption.

    ``others``: further sections after the caption: which methods are separated (`separation`),
    and rows that were not measured here (`of_frame`).
    """
    if table.empty:
        return "no cell has run yet"
    blocks = [section_text(section) for section in sections(table)]
    words = "\n".join(map(_wrapped, caption(table)))
    return "\n\n".join([*blocks, words, *map(section_text, others)])


def section_text(section: Section) -> str:
    """One section for a terminal."""
    columns = [
        _column(name, [row[i] for group in section.groups for row in group.rows])
        for i, name in enumerate(section.columns)
    ]
    tables = [_table(section, columns, part) for part in _parts(section, columns)]
    return "\n".join([section.title, *tables, *map(_wrapped, section.notes)])


def _column(name: str, values: Sequence[Value]) -> list[str]:
    """Header and entries, of one width; numbers are flush right up to where an interval begins."""
    texts = [value.points() if isinstance(value, Interval) else str(value) for value in values]
    heads = [text.split(" ")[0] for text in texts]
    if name not in KEYS and all(NUMBER.fullmatch(head) for head in heads):
        widest = max(map(len, heads))
        texts = [
            head.rjust(widest) + text[len(head) :] for head, text in zip(heads, texts, strict=True)
        ]
    width = max(len(name), *map(len, texts))
    return [text.ljust(width) for text in (name, *texts)]


def _parts(section: Section, columns: Sequence[Sequence[str]]) -> list[list[int]]:
    """The numbers of the columns of each part that is narrow enough, each with the keys first."""
    widths = [len(column[0]) + 2 for column in columns]
    keys = [i for i, name in enumerate(section.columns) if name in KEYS]
    rest = [i for i in range(len(columns)) if i not in keys]
    parts = [[*keys]] if columns else []
    for i in rest:
        full = sum(widths[k] for k in parts[-1]) + widths[i] - 2 > WIDTH
        if full and len(parts[-1]) > len(keys):
            parts.append([*keys])
        parts[-1].append(i)
    return parts


def _table(section: Section, columns: Sequence[Sequence[str]], part: Sequence[int]) -> str:
    lines = ["  ".join(line).rstrip() for line in zip(*(columns[i] for i in part), strict=True)]
    shown, begin = lines[:1], 1
    for group in section.groups:
        shown += [group.label] if group.label else []
        shown += lines[begin : begin + len(group.rows)]
        begin += len(group.rows)
    return "\n".join(shown)


def _wrapped(sentence: str) -> str:
    return textwrap.fill(sentence, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def as_csv(table: pd.DataFrame, others: Sequence[Section] = ()) -> str:
    """The headline table as CSV: plain numbers, shares for accuracies, nothing for what is missing.

    A column of intervals becomes three: ``<name>``, ``<name> low`` and ``<name> high``; steps and
    tokens that were not enough are ``inf``. Entries
    with several values are separated by spaces. Text that a spreadsheet would take for a formula
    has an apostrophe in front (`csv_text` says when; take it off to have the text). ``others`` stay
    out: rows that were not measured here have other columns, and a reader of the file would take
    them for measured ones.
    """
    header: list[str] = []
    columns: list[list[str]] = []
    for name in table.columns:
        values = table[name].tolist()
        if any(isinstance(value, Interval | Reached) for value in values):
            header += [csv_text(f"{name}{bound}") for bound in ("", " low", " high")]
            whole = [v if isinstance(v, Interval | Reached) else MISSING for v in values]
            columns += [[_plain(v.value) for v in whole], [_plain(v.low) for v in whole]]
            columns += [[_plain(v.high) for v in whole]]
        else:
            header.append(csv_text(str(name)))
            columns.append([_cell(value) for value in values])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(zip(*columns, strict=True))
    return text.getvalue()


def _cell(value: object) -> str:
    """An entry; what is text is text for a spreadsheet too."""
    text = _plain(value)
    return text if isinstance(value, int | float) else csv_text(text)


MISSING = Interval(math.nan, math.nan, math.nan, 0)


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(_plain, value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.10g}"
    return "" if value is None or value is pd.NA else str(value)
