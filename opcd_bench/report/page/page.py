"""The page of the report: what it is made of, and its HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from types import SimpleNamespace
from typing import Any, NamedTuple

import jinja2
import pandas as pd
from markupsafe import Markup

from opcd_bench.report.analysis.comparison import Comparison
from opcd_bench.report.analysis.curves import METRICS
from opcd_bench.report.figures.catalogue import tasks_of
from opcd_bench.report.figures.files import DrawnFigure
from opcd_bench.report.page import provenance, tables
from opcd_bench.report.tables.markup import sections_html


@dataclass(frozen=True)
class PageContext:
    """Everything that index.html shows; render.py makes it from the results.

    ``name`` and ``summary``: of suite.json ("" where it has no summary). ``command``: what rebuilds
    the page. ``headline``, ``rounds``, ``published``, ``external``: finished HTML tables, escaped
    where they are made ("" where there is nothing to show). ``comparison``:
    comparison.compare(results). ``drawn``: figures.draw(comparison), whose files lie in
    ``figures/`` beside the page. ``cells``: Results.cells, for the provenance. ``protocols``:
    columns task, measured, split, protocol_hash. ``missing``: columns task, learning_rate, method,
    state (why it is missing). ``sample_count``: items in the sample browser (0: no browser), whose
    files lie in ``samples/``. ``downloads``: label -> path of a file beside the page, such as
    "headline.csv". ``overlap``: task -> how many test questions stand in its train split.
    ``notes``: sentences that stand above everything, such as warnings.

    The page gives every run an anchor: a table may link to ``#run-<run id>``.
    """

    name: str
    summary: str
    command: str
    headline: str
    comparison: Comparison
    drawn: Sequence[DrawnFigure]
    cells: pd.DataFrame
    protocols: pd.DataFrame
    missing: pd.DataFrame
    rounds: str = ""
    probes: str = ""
    published: str = ""
    external: str = ""
    sample_count: int = 0
    downloads: Mapping[str, str] = field(default_factory=dict)
    overlap: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


class Block(NamedTuple):
    """Part of a section: a heading, figures, a table; ``fold``: the table is folded below this."""

    heading: str = ""
    figures: Sequence[Any] = ()
    html: Markup = Markup("")
    fold: str = ""


class PageSection(NamedTuple):
    """A section of the page."""

    id: str
    title: str
    intro: Sequence[str] = ()
    blocks: Sequence[Block] = ()


def render(context: PageContext) -> bytes:
    """index.html, complete but for the files in ``figures/`` and ``samples/``."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text), autoescape=True, undefined=jinja2.StrictUndefined
    )
    html = environment.get_template("page.html.j2").render(
        name=context.name,
        summary=context.summary,
        notes=context.notes,
        sections=sections(context),
        css=Markup(_text("page.css")),
        js=Markup(_text("page.js") + _text("samples.js")),
        stands=stands(context.comparison),
        metrics=list(METRICS.values()),
        command=context.command,
        downloads=context.downloads,
        missing=provenance.missing(context.missing),
        protocols=context.protocols.to_dict("records"),
        overlap=context.overlap,
        **provenance.of_cells(context.cells),
    )
    return html.encode()


def _text(name: str) -> str:
    return resources.files("opcd_bench.report.page").joinpath("templates", name).read_text("utf-8")


def sections(context: PageContext) -> list[PageSection]:
    """What the page shows, in its order; sections without anything to show are left out."""
    c = context.comparison
    found = [
        PageSection("headline", "Comparison", (), [Block(html=Markup(context.headline))])
        if context.headline
        else None,
        PageSection("rounds", "Rounds", (), [Block(html=Markup(context.rounds))])
        if context.rounds
        else None,
        PageSection("probes", "Further test sets", (), [Block(html=Markup(context.probes))])
        if context.probes
        else None,
        _drawn_section(
            context, "frontier", "Gain against forgetting over the sweep",
            ["A single point says little: a method that is trained harder gains more and forgets "
            "more. So methods are compared over all learning rates and steps."],
            ["frontier"], [("", tables.areas(c.areas)),
                           ("Differences between methods", tables.differences(
                               c.area_differences))],
        ),
        _drawn_section(
            context, "forgetting", "What was gained on test, and what was forgotten",
            ["Learning rate and step were chosen on dev; test was scored once."],
            ["forgetting", "retention-steps"], [],
        ),
        _drawn_section(
            context, "curves", "Training curves", [], ["curves-steps", "curves-tokens"], [],
        ),
        _drawn_section(
            context, "factorial", "Which choice the effects come from",
            ["Methods that differ in a single choice, and the four combinations of two choices, "
            "all else equal."],
            ["factorial"], [("All effects as a table", tables.effects(c.effects))],
        ),
        _drawn_section(
            context, "pairwise", "Every method against every other", [],
            ["pairwise"], [("All pairs as a table", tables.pairs(c.matrix))],
        ),
        _drawn_section(
            context, "instructions", "Which instructions were forgotten", [],
            ["instructions"],
            [("All instruction types as a table", tables.instructions(c.instructions))],
        ),
        PageSection("published", "Published numbers", (), [Block(html=Markup(context.published))])
        if context.published
        else None,
        PageSection("external", "External results", (), [Block(html=Markup(context.external))])
        if context.external
        else None,
        PageSection(
            "samples", "Samples",
            (f"{context.sample_count:,} examples of the finished runs, side by side: what was "
            "asked, how each method responded, and how it was graded.",),
        )
        if context.sample_count
        else None,
        PageSection("provenance", "Where the numbers come from"),
    ]  # fmt: skip
    return [section for section in found if section is not None]


def _drawn_section(
    context: PageContext,
    name: str,
    title: str,
    intro: Sequence[str],
    kinds: Sequence[str],
    folded: Sequence[tuple[str, tables.ByTask]],
) -> PageSection | None:
    """Of each task its figures of ``kinds`` and its tables; None where there is none of either."""
    tasks = tasks_of(context.comparison)
    blocks = []
    for task in tasks:
        shown = [one for one in context.drawn if one.task == task and one.kind in kinds]
        shown.sort(key=lambda one: kinds.index(one.kind))
        heading = task if len(tasks) > 1 else ""
        parts = [Block(figures=[_figure(one) for one in shown])] if shown else []
        parts += [
            Block(html=Markup(sections_html(by_task[task])), fold=fold)
            for fold, by_task in folded
            if task in by_task
        ]
        if parts:
            blocks += [parts[0]._replace(heading=heading), *parts[1:]]
    return PageSection(name, title, intro, blocks) if blocks else None


def _figure(one: DrawnFigure) -> SimpleNamespace:
    """What the template needs of a figure."""
    return SimpleNamespace(
        name=one.name, kind=one.kind, task=one.task, caption=one.caption, alt=one.alt,
        wide=one.wide, narrow=one.narrow, path=f"figures/{one.name}",
    )  # fmt: skip


def stands(comparison: Comparison) -> dict[str, dict[str, float]]:
    """Task -> method -> the rate at which it is compared, for the sample browser."""
    found: dict[str, dict[str, float]] = {}
    curves = comparison.curves
    compared = [curves[curves["headline"].astype(bool)], comparison.forgetting]
    for frame in compared:
        for row in frame[["task", "method", "learning_rate"]].drop_duplicates().itertuples():
            found.setdefault(str(row.task), {})[str(row.method)] = float(row.learning_rate)
    return found
