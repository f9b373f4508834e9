"""The comparison's table as Markdown, LaTeX and HTML: what a name holds stays text in each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape

import pandas as pd

from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.tables.layout import KEYS, Group, Runs, Section, Value, caption, sections
from opcd_bench.report.tables.shown_methods import label

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%",
        "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "–": "--", "…": r"\dots{}",
        "±": r"$\pm$", "×": r"$\times$", "−": "$-$", "\n": " ",
    }
)  # fmt: skip
COSTS = {*KEYS[1:], "parsed", "tokens generated", "tokens scored", "seconds"}
MORE, REST = ' class="more"', ' class="rest"'
BOUNDS = re.compile(r" \[[^\[\]=]*, [^\[\]=]*\]$")
"""An interval at the end of a text."""
METHODS = ("method", "other")
"""Columns of methods' names."""
WORDY = 30
"""Characters from which on a value is a sentence: its column is set to the left, and wraps."""
MARKDOWN = str.maketrans(
    {**{mark: f"\\{mark}" for mark in r"\`*_[]#|~$"}, "<": "&lt;", ">": "&gt;", "&": "&amp;",
     "\n": " "}
)  # fmt: skip


def labelled(section: Section) -> Section:
    """The section with its methods under their names for readers."""
    named = [name in METHODS for name in section.columns]
    groups = tuple(
        group._replace(
            rows=tuple(
                tuple(
                    label(value) if is_name and isinstance(value, str) else value
                    for value, is_name in zip(row, named, strict=True)
                )
                for row in group.rows
            )
        )
        for group in section.groups
    )
    return replace(section, groups=groups)


def _wordy(section: Section) -> list[bool]:
    """Of each column whether it holds sentences; names of methods are none, however long."""
    rows = [row for group in section.groups for row in group.rows]
    columns = range(len(section.columns))
    longest = [max((_length(row[at]) for row in rows), default=0) for at in columns]
    return [
        name not in METHODS and length > WORDY
        for name, length in zip(section.columns, longest, strict=True)
    ]


def _length(value: Value) -> int:
    """Characters of a text; 0 of numbers."""
    return len(value) if isinstance(value, str) else 0


# --- Markdown ---------------------------------------------------------------------------------


def as_markdown(table: pd.DataFrame, others: Sequence[Section] = ()) -> str:
    """The headline table as GitHub's Markdown: a heading and a table a section, then the caption.

    ``others``: further sections after the caption, as those of `plain_text.as_text`.
    """
    blocks = [section_markdown(section) for section in sections(table, label)]
    blocks += [sentence.translate(MARKDOWN) for sentence in caption(table)]
    return "\n\n".join([*blocks, *map(section_markdown, others)]) + "\n"


def section_markdown(section: Section) -> str:
    """One section as GitHub's Markdown, without an end of line."""
    section = labelled(section)
    lines = [f"### {section.title.translate(MARKDOWN)}", ""]
    if section.columns:
        lines.append(_line([name.translate(MARKDOWN) for name in section.columns]))
        left = zip(section.columns, _wordy(section), strict=True)
        lines.append(_line(["---" if name in KEYS or wordy else "--:" for name, wordy in left]))
    for group in section.groups:
        if group.label:
            label = f"*{group.label.translate(MARKDOWN)}*"
            lines.append(_line([label, *[""] * (len(section.columns) - 1)]))
        lines += [_line([_markdown_value(value) for value in row]) for row in group.rows]
    notes = [f"\n{note.translate(MARKDOWN)}" for note in section.notes]
    return "\n".join([*lines, *notes]).replace("\n\n\n", "\n\n")


def _markdown_value(value: Value) -> str:
    return value.points() if isinstance(value, Interval) else str(value).translate(MARKDOWN)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


# --- LaTeX ------------------------------------------------------------------------------------


def as_latex(table: pd.DataFrame, others: Sequence[Section] = ()) -> str:
    """The headline table for a paper: a ``table*`` a section; needs the package booktabs.

    ``others``: further sections, as those of `plain_text.as_text`.
    """
    measured = [section for section in sections(table, label) if section.columns]
    first, later = " ".join(caption(table)), "Numbers as in the table before."
    said = [first if place == 0 else later for place in range(len(measured))]
    made = [_latex(*pair) for pair in zip(measured, said, strict=True)]
    made += [_latex(section, "") for section in others]
    return "\n\n".join(["% \\usepackage{booktabs}", *made]) + "\n"


def _latex(section: Section, words: str) -> str:
    section = labelled(section)
    said = " ".join(filter(None, [f"{section.title}.", words, *section.notes]))
    count = len(section.columns)
    body = []
    for group in section.groups:
        if group.label:
            body += [
                r"\midrule",
                rf"\multicolumn{{{count}}}{{l}}{{\emph{{{_tex(group.label)}}}}} \\",
            ]
        body += [" & ".join(map(_latex_value, row)) + r" \\" for row in group.rows]
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering\small",
            rf"\caption{{{_tex(said)}}}",
            rf"\begin{{tabular}}{{{''.join('l' if c in KEYS else 'r' for c in section.columns)}}}",
            r"\toprule",
            " & ".join(map(_tex, section.columns)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table*}",
        ]
    )


def _tex(text: str) -> str:
    return text.translate(LATEX)


def _latex_value(value: Value) -> str:
    if not isinstance(value, Interval):
        return _tex(str(value))
    point, bracket, bounds = value.points().partition(" [")
    return _signed(point) + (f" {{\\scriptsize [{_signed(bounds)}}}" if bracket else "")


def _signed(numbers: str) -> str:
    """Numbers with a minus where the keyboard has a hyphen; a dash stays one."""
    return _tex(numbers.replace("-", "−"))


# --- HTML -------------------------------------------------------------------------------------


def caption_html(table: pd.DataFrame) -> str:
    """What the numbers of the headline table are, as paragraphs."""
    return "".join(f"<p>{escape(sentence)}</p>\n" for sentence in caption(table))


def unlinked(section: Section) -> Section:
    """The section for a page without ``#run-<run id>``: its seeds are counted and link nowhere."""
    groups = tuple(
        Group(
            group.label,
            tuple(tuple(str(v) if isinstance(v, Runs) else v for v in row) for row in group.rows),
        )
        for group in section.groups
    )
    return replace(section, groups=groups)


def sections_html(shown: Sequence[Section]) -> str:
    """Sections as HTML tables with caption and header cells, all text escaped.

    The seeds of a row link to ``#run-<run id>``. Each table scrolls inside a box of its own, of
    class ``scroll``; cells that a phone can do without have the class ``more``, those that a first
    look can do without ``rest``.
    """
    return "".join(map(_html, shown))


def _html(section: Section) -> str:
    section = labelled(section)
    title = escape(section.title)
    notes = "".join(f'<p class="note">{escape(note)}</p>\n' for note in section.notes)
    if not section.columns:
        return f'<p class="note"><strong>{title}</strong></p>\n{notes}'
    marks = _classes(section)
    head = "".join(
        f'<th scope="col"{mark}>{escape(name)}</th>'
        for name, mark in zip(section.columns, marks, strict=True)
    )
    bodies = "".join(_body(group, marks) for group in section.groups)
    return (
        f'<div class="scroll" role="region" aria-label="{title}" tabindex="0">\n<table>\n'
        f"<caption>{title}</caption>\n<thead>\n<tr>{head}</tr>\n</thead>\n{bodies}</table>\n</div>\n"
        f"{notes}"
    )


def _classes(section: Section) -> list[str]:
    """Of each column the attribute of its cells.

    A cost, or what a change stands beside, is ``more``; sentences are ``words``.
    """
    columns = section.columns
    changed = {
        name
        for name in columns
        for unit in ("", " (nats)")
        if name.endswith(unit) and f"{name.removesuffix(unit)} change{unit}" in columns
    }
    more = changed | COSTS
    rest = {name for name in columns if name.startswith("tokens to ")}
    return [
        REST if name in rest else MORE if name in more
        else ' class="words"' if wordy else ""
        for name, wordy in zip(columns, _wordy(section), strict=True)
    ]  # fmt: skip


def _body(group: Group, marks: Sequence[str]) -> str:
    count = len(marks)
    label = f'<tr><th scope="rowgroup" colspan="{count}">{escape(group.label)}</th></tr>\n'
    aside = [mark in (MORE, REST) for mark in marks]
    rows = "".join(
        f'<tr{"" if _stands(row, aside) else MORE}><th scope="row"{marks[0]}>{_entry(row[0])}</th>'
        + "".join(
            f"<td{mark}>{_entry(value)}</td>"
            for value, mark in zip(row[1:], marks[1:], strict=True)
        )
        + "</tr>\n"
        for row in group.rows
    )
    return f"<tbody>\n{label if group.label else ''}{rows}</tbody>\n"


def _stands(row: Sequence[Value], aside: Sequence[bool]) -> bool:
    """Whether a row says anything where the columns ``aside`` are left out."""
    return any(
        value != "" for value, out in zip(row[1:], aside[1:], strict=True) if not out
    ) or not any(value != "" for value in row[1:])


def _entry(value: Value) -> str:
    if isinstance(value, Interval):
        point, bracket, bounds = value.points().partition(" [")
        return point + (f" <small>[{bounds}</small>" if bracket else "")
    if isinstance(value, Runs):
        links = " ".join(
            f'<a href="#run-{escape(run)}" aria-label="run {escape(run)}">{number}</a>'
            for number, run in enumerate(value.names, 1)
        )
        return f"{value} <small>({links})</small>"
    found = BOUNDS.search(value)
    if found is None:
        return escape(value)
    return f"{escape(value[: found.start()])} <small>{escape(found[0].strip())}</small>"
