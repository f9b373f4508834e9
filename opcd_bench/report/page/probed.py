"""What probes of stored runs came to: tables as text and files, and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from opcd_bench.report.analysis import optima, prefixes
from opcd_bench.report.figures import prefixes as prefix_figure
from opcd_bench.report.figures.catalogue import render_all
from opcd_bench.report.figures.files import DrawnFigure
from opcd_bench.report.page import folder
from opcd_bench.report.page.folder import WrittenFiles
from opcd_bench.report.tables import markup, plain_text
from opcd_bench.report.tables import optima as optimum_tables
from opcd_bench.report.tables import prefixes as prefix_tables
from opcd_bench.report.tables.layout import Section

Kind = Literal["prefix", "optimum"]


@dataclass(frozen=True)
class Probed:
    """A probe of a suite: its frame with intervals, its tables, figures, and a line a task."""

    kind: Kind
    frame: pd.DataFrame
    sections: list[Section]
    drawn: list[DrawnFigure]
    said: Sequence[str] = ()


def probed(root: Path, kind: Kind) -> Probed:
    """What is stored of a suite's probe of this kind; empty where there is none."""
    if kind == "optimum":
        frame = optima.optima(optima.stored(root))
        said = optimum_tables.conclusions(frame)
        return Probed(kind, frame, optimum_tables.sections(frame), [], said)
    frame = prefixes.prefixes(prefixes.stored(root))
    tasks = list(dict.fromkeys(frame["task"]))
    drawn = [prefix_figure.drawn(frame, task) for task in tasks]
    said = prefix_tables.conclusions(frame)
    return Probed(kind, frame, prefix_tables.sections(frame), drawn, said)


def every(root: Path) -> list[Probed]:
    """The probes of a suite that have been made."""
    kinds: tuple[Kind, ...] = ("prefix", "optimum")
    return [found for kind in kinds if len((found := probed(root, kind)).frame)]


def as_text(found: Probed) -> str:
    """The tables for a terminal."""
    return "\n\n".join([*found.said, *map(plain_text.section_text, found.sections)])


def write(found: Probed, root: Path, out: Path | None) -> WrittenFiles:
    """Tables as Markdown and CSV, and figures, in a folder beside the suite's report."""
    default = folder.default_out(root)
    where = out or default.with_name(f"{default.name}-{found.kind}")
    said = [f"{line.translate(markup.MARKDOWN)}\n" for line in found.said]
    text = "\n".join([*said, *map(markup.section_markdown, found.sections)])
    files = {
        f"{found.kind}.md": text.encode(),
        f"{found.kind}.csv": plain_text.as_csv(found.frame).encode(),
        **render_all(found.drawn),
    }
    return folder.write(where, files)
