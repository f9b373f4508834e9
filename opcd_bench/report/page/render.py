"""A suite's results as the files of its report: page, tables, figures, samples and data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pandas as pd

from opcd_bench.envs.overlap import Overlap
from opcd_bench.hashing import canonical
from opcd_bench.report.analysis import (
    break_even,
    claims,
    clusters,
    contexts,
    external,
    order,
    sensitivity,
    several_samples,
    stored_samples,
)
from opcd_bench.report.analysis.comparison import Comparison, compare
from opcd_bench.report.analysis.floors import above_floor
from opcd_bench.report.analysis.headline import headline, standing_still
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.analysis.probes import probes as further
from opcd_bench.report.figures import catalogue, style
from opcd_bench.report.figures import claims as claim_figure
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.figures.words import listed
from opcd_bench.report.page import browser, page, probed, published, studied, verdict
from opcd_bench.report.page.folder import PAGE
from opcd_bench.report.page.page_context import PageContext
from opcd_bench.report.tables import claims as claim_tables
from opcd_bench.report.tables import doses as dose_tables
from opcd_bench.report.tables import layout, markup, plain_text, probes, rounds, separation
from opcd_bench.report.tables import sensitivity as variance_tables
from opcd_bench.report.tables.layout import Section
from opcd_bench.report.tables.shown_methods import label
from opcd_bench.store.jsonl import zipped

DATA = "data"
CURVES = f"{DATA}/curves.csv"
"""A row a seed, metric and step: the one table of megabytes, so it is packed."""
PROTOCOLS = ["task", "measured", "split", "protocol_hash"]
MISSING = ["task", "learning_rate", "method", "state"]


def render(results: StoredResults, *, command: str) -> dict[str, bytes]:
    """Every file of the report by its name relative to the report's folder.

    The same results give the same bytes. ``command``: what to type to make it again, as the page
    says it. Reads the replies of the stored samples once more, from ``results.root``; StoreError
    where the cells cannot be compared.
    """
    table = headline(results)
    comparison = compare(results)
    marks = style.palette(*order.methods(results))
    tasks = order.tasks(results)
    asked = probed.every(results.root)
    stated = claims.claims(results)
    varied = sensitivity.sensitivity(results)
    judged = claim_tables.sections(stated)
    drawn = catalogue.draw(comparison, marks, tasks, _gaps(table))
    drawn += [figure for one in asked for figure in one.drawn]
    if (effects := claim_figure.drawn(stated)) is not None:
        drawn.append(effects)
    told = contexts.of(results)
    studies = studied.studied(results, table, comparison, told, asked, marks)
    drawn += [figure for one in studies for figure in one.drawn]
    pools = {task: one.contexts for task, one in told.items()}
    sets = stored_samples.sample_sets(results.root, pools)
    samples = browser.shards(sets)
    in_clusters = clusters.of_examples(results.suite)
    counted = several_samples.several(sets, page.stands(comparison), in_clusters)
    paid = break_even.break_even(results)
    papers, outside = _published(results), results.external
    chained = rounds.read(results.root)
    beside = further(results)
    only_rounds = results.cells.empty and not chained.empty
    by_instruction = external.instructions(results.root)
    missing = table.loc[table["state"] != "done", MISSING].reset_index(drop=True)
    if only_rounds:  # its cells are its rounds', whose table says what is missing
        missing = missing.iloc[:0]
    protocols = _protocols(results)
    others = _others(papers, outside)
    apart = separation.sections(comparison.discrimination, comparison.groups)
    blocks = [*apart, *others.values()]
    frames = {
        **{field.name: getattr(comparison, field.name) for field in dataclasses.fields(Comparison)},
        "cells": _flat(results.cells),
        "protocols": protocols,
        "missing": missing,
        "published": papers,
        "external": outside,
        "external_instructions": by_instruction,
        "rounds": chained,
        "probes": beside,
        **{f"probe_{one.kind}": one.frame for one in asked},
        **{name: frame for one in studies for name, frame in one.frames.items()},
        "claims": stated,
        "sensitivity": varied,
        "several_samples": counted,
        "break_even": paid,
    }
    written = {
        "headline.md": markup.as_markdown(table, blocks),
        "headline.csv": plain_text.as_csv(table),
        "headline.tex": markup.as_latex(table, blocks),
        **({"claims.md": markup.section_markdown(judged[0])} if judged else {}),
        **dose_tables.files(comparison.doses, comparison.dose_response),
        **{
            f"{DATA}/{name}.csv": plain_text.as_csv(rows)
            for name, rows in frames.items()
            if len(rows)
        },
    }
    files = {name: text.encode() for name, text in written.items()}
    if CURVES in files:
        files[f"{CURVES}.gz"] = zipped(files.pop(CURVES))
    context = PageContext(
        name=str(results.suite.get("name", results.root.name)),
        summary=str(results.suite.get("summary", "")),
        command=command,
        marks=marks,
        tasks=tasks,
        verdicts=verdict.verdicts(
            comparison.groups,
            comparison.pairs,
            comparison.discrimination,
            marks,
            tasks,
            standing_still(table),
            above_floor(results, table),
        ),
        apart=markup.sections_html(apart),
        **({} if only_rounds else _tables(table)),
        several=counted,
        break_even=paid,
        contexts=told,
        rounds=markup.sections_html(rounds.sections(chained)) if len(chained) else "",
        lessons=rounds.contexts(results.root),
        probes=markup.sections_html(probes.sections(beside)) if len(beside) else "",
        claims=markup.sections_html(judged) if judged else "",
        sensitivity=_sensitivity(varied),
        varies=variance_tables.conclusions(varied, sensitivity.lacking(results)),
        concluded=claim_tables.conclusion(stated) if judged else "",
        probed=asked,
        studied=studies,
        comparison=comparison,
        drawn=drawn,
        cells=results.cells,
        protocols=protocols,
        missing=missing,
        published=_html(others, published.TITLE),
        external=_html(others, external.TITLE) + _by_instruction(by_instruction),
        sample_count=browser.count(samples),
        downloads={name: name for name in files},
        overlap=_overlap(results),
        notes=[] if only_rounds else _notes(results, missing, marks),
    )
    return {
        PAGE: page.render(context),
        **files,
        **catalogue.render_all(drawn),
        **samples,
    }


def _tables(table: pd.DataFrame) -> dict[str, str]:
    """The headline table as the page has it: where methods are compared, everywhere, and words."""
    compared = table[table["headline"] | (table["seeds"] == 0)]
    return {
        "headline": markup.sections_html(layout.sections(compared, label)),
        "all_rates": markup.sections_html(layout.sections(table, label)),
        "words": markup.caption_html(table),
    }


def _gaps(table: pd.DataFrame) -> dict[str, float]:
    """Task -> what the in-context teacher has over the base on test.

    That is the student itself with the context, where a method is measured against it; else the
    one teacher of all methods. No entry where they have several others.
    """
    found = {}
    for task, rows in table[table["seeds"] > 0].groupby("task", sort=False):
        by_name = {layout.ceiling_name(row): row for row in reversed(rows.to_dict("records"))}
        if "ceiling" not in by_name and len(by_name) > 1:
            continue
        first = by_name.get("ceiling", [*by_name.values()][-1])
        found[str(task)] = float(first["ceiling"].value - first["base"].value)
    return found


def _flat(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells with their mappings as JSON, so that a table can hold them."""
    mappings = {
        name: [canonical(dict(value)) for value in cells[name]]
        for name in ("settings", "description", "environment")
    }
    return cells.assign(**mappings)


def _published(results: StoredResults) -> pd.DataFrame:
    suite = results.suite
    tasks = {*suite.get("tasks", []), *results.cells["task"]}
    return published.rows(tasks, str(suite.get("model", "")))


def _others(papers: pd.DataFrame, outside: pd.DataFrame) -> dict[str, Section]:
    """The blocks of rows that were not measured here, by title."""
    found = {}
    if len(papers):
        shown = published.shown(papers)
        found[published.TITLE] = layout.of_frame(published.TITLE, shown, published.CAPTION)
    if len(outside):
        shown = external.shown(outside)
        found[external.TITLE] = layout.of_frame(external.TITLE, shown, external.CAPTION)
    return found


def _html(others: Mapping[str, Section], title: str) -> str:
    return markup.sections_html([others[title]]) if title in others else ""


def _sensitivity(varied: pd.DataFrame) -> str:
    return markup.sections_html(variance_tables.sections(varied)) if len(varied) else ""


def _by_instruction(rows: pd.DataFrame) -> str:
    if rows.empty:
        return ""
    return markup.sections_html([layout.of_frame(external.BY_INSTRUCTION, rows)])


def _protocols(results: StoredResults) -> pd.DataFrame:
    """Under which protocol everything was measured; columns `PROTOCOLS`."""
    rows = results.evals[PROTOCOLS].drop_duplicates().sort_values(PROTOCOLS)
    return rows.reset_index(drop=True)


def _overlap(results: StoredResults) -> dict[str, str]:
    """Of each task how many test questions stand in train; nothing where it was not measured."""
    stored = results.suite.get("overlap", {})
    return {task: str(Overlap(**found)) for task, found in sorted(stored.items())}


def _notes(results: StoredResults, missing: pd.DataFrame, marks: Marks) -> list[str]:
    """What a reader must know before anything else."""
    cells = results.cells
    done = int((cells["state"] == "done").sum())
    if done == 0:
        return ["No cell of this suite is done yet: there is nothing to compare."]
    found = _collapsed(cells[cells["state"] == "done"], marks)
    if missing.empty:
        return found
    failed = int((cells["state"] == "failed").sum())
    return [
        f"The suite is not complete: {done} cells are done"
        + (f", {failed} failed" if failed else "")
        + f"; {len(missing)} rows of the comparison lack some of their cells (listed at the end "
        "of the page).",
        *found,
    ]


def _collapsed(done: pd.DataFrame, marks: Marks) -> list[str]:
    """Whose responses collapsed in training, in how many runs and from which step on."""
    fell = done[done["collapsed"].notna()]
    if fell.empty:
        return []
    counts = done["method"].value_counts()
    parts = [
        f"{marks[name].label} in {len(rows)} of {counts[name]} runs (from step "
        f"{rows['collapsed'].min():.0f} on)"
        for name in marks
        if len(rows := fell[fell["method"] == name])
    ]
    return [
        f"Responses collapsed in training: {listed(parts)}. They repeat themselves, do not "
        "end, or have left what their loss sees. Their rows count; look at their responses before "
        "you trust them."
    ]
