"""The comparison's table as Markdown, LaTeX and HTML: what a name holds stays text in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape

import pandas as pd

from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.tables.layout import KEYS, Group, Runs, Section, Value, caption, sections

LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%",
        "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "–": "--", "…": r"\dots{}",
        "±": r"$\pm$", "×": r"$\times$", "−": "$-$", "\n": " ",
    }
)  # fmt: skip
MARKDOWN = str.maketrans(
    {**{mark: f"\\{mark}" for mark in r"\`*_[]#|~$"}, "<": "&lt;", ">": "&gt;", "&": "&amp;",
     "\n": " "}
)  # fmt: skip


# --- Markdown ---------------------------------------------------------------------------------


def as_markdown(table: pd.DataFrame, others: Sequence[Section] = ()) -> str:
    """The headline table as GitHub's Markdown: a heading and a table a section, then the caption.

    ``others``: further sections after the caption, as those of `plain_text.as_text`.
    """
    blocks = [section_markdown(section) for section in sections(table)]
    blocks += [sentence.translate(MARKDOWN) for sentence in caption(table)]
    return "\n\n".join([*blocks, *map(section_markdown, others)]) + "\n"


def section_markdown(section: Section) -> str:
    """One section as GitHub's Markdown, without an end of line."""
    lines = [f"### {section.title.translate(MARKDOWN)}", ""]
    if section.columns:
        lines.append(_line([name.translate(MARKDOWN) for name in section.columns]))
        lines.append(_line(["---" if name in KEYS else "--:" for name in section.columns]))
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
    measured = [section for section in sections(table) if section.columns]
    first, later = " ".join(caption(table)), "Numbers as in the table before."
    said = [first if place == 0 else later for place in range(len(measured))]
    made = [_latex(*pair) for pair in zip(measured, said, strict=True)]
    made += [_latex(section, "") for section in others]
    return "\n\n".join(["% \\usepackage{booktabs}", *made]) + "\n"


def _latex(section: Section, words: str) -> str:
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


def as_html(table: pd.DataFrame, others: Sequence[Section] = ()) -> str:
    """The headline table as HTML: a table a section, then the caption as paragraphs.

    The seeds of a row link to ``#run-<run id>``. Each table scrolls inside a box of its own, of
    class ``scroll``. ``others``: further sections, as those of `plain_text.as_text`.
    """
    words = "".join(f"<p>{escape(sentence)}</p>\n" for sentence in caption(table))
    said = f'<div class="caption">\n{words}</div>\n'
    return sections_html(sections(table)) + said + sections_html(others)


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
    """Sections as HTML tables with caption and header cells, all text escaped."""
    return "".join(map(_html, shown))


def _html(section: Section) -> str:
    title = escape(section.title)
    notes = "".join(f'<p class="note">{escape(note)}</p>\n' for note in section.notes)
    if not section.columns:
        return f'<p class="note"><strong>{title}</strong></p>\n{notes}'
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in section.columns)
    bodies = "".join(_body(group, len(section.columns)) for group in section.groups)
    return (
        f'<div class="scroll" role="region" aria-label="{title}" tabindex="0">\n<table>\n'
        f"<caption>{title}</caption>\n<thead>\n<tr>{head}</tr>\n</thead>\n{bodies}</table>\n</div>\n"
        f"{notes}"
    )


def _body(group: Group, columns: int) -> str:
    label = f'<tr><th scope="rowgroup" colspan="{columns}">{escape(group.label)}</th></tr>\n'
    rows = "".join(
        f'<tr><th scope="row">{_entry(row[0])}</th>'
        + "".join(f"<td>{_entry(value)}</td>" for value in row[1:])
        + "</tr>\n"
        for row in group.rows
    )
    return f"<tbody>\n{label if group.label else ''}{rows}</tbody>\n"


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
    return escape(value)
