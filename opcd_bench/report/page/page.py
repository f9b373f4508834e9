"""The page of the report: its HTML."""

from __future__ import annotations

from importlib import resources

import jinja2
from markupsafe import Markup

from opcd_bench.report.analysis.comparison import Comparison
from opcd_bench.report.analysis.curves import METRICS
from opcd_bench.report.page import provenance
from opcd_bench.report.page.page_context import PageContext
from opcd_bench.report.page.sections import sections


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
        told={
            "stands": stands(context.comparison),
            "labels": [[name, mark.label] for name, mark in context.marks.items()],
        },
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


def stands(comparison: Comparison) -> dict[str, dict[str, float]]:
    """Task -> method -> the rate at which it is compared, for the sample browser."""
    found: dict[str, dict[str, float]] = {}
    curves = comparison.curves
    compared = [curves[curves["headline"].astype(bool)], comparison.forgetting]
    for frame in compared:
        for row in frame[["task", "method", "learning_rate"]].drop_duplicates().itertuples():
            found.setdefault(str(row.task), {})[str(row.method)] = float(row.learning_rate)
    return found
