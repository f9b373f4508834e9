"""The sections of the page: which there are, in their order, and what stands in each."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from markupsafe import Markup

from opcd_bench.envs.task import Context
from opcd_bench.report.analysis.contexts import StoredContexts
from opcd_bench.report.figures import claims, summary
from opcd_bench.report.figures.files import DrawnFigure
from opcd_bench.report.page import tables
from opcd_bench.report.page.page_context import PageContext
from opcd_bench.report.page.probed import Probed
from opcd_bench.report.page.studied import Studied
from opcd_bench.report.tables import doses
from opcd_bench.report.tables.markup import sections_html


class Block(NamedTuple):
    """Part of a section: a heading, figures, a table; ``fold``: the table is folded below this."""

    heading: str = ""
    figures: Sequence[Any] = ()
    html: Markup = Markup("")
    fold: str = ""


class PageSection(NamedTuple):
    """A section of the page; ``short``: its name where the page lists its sections.

    ``folded``: only its title shows until it is opened.
    """

    id: str
    short: str
    title: str
    intro: Sequence[str] = ()
    blocks: Sequence[Block] = ()
    folded: bool = False


def sections(context: PageContext) -> list[PageSection]:
    """What the page shows, in its order; sections without anything to show are left out."""
    c, marks = context.comparison, context.marks
    studies = [
        *map(_studied, context.studied),
        *map(_probed, context.probed),
        _finished("sensitivity", "Variance", "Where the gain's variance comes from",
                  context.sensitivity, context.varies),
        _drawn_section(
            context, "doses", "Dose", "Damage by the dose of a truncated loss's leak",
            doses.conclusions(c.doses, c.dose_response), ["doses"],
            [("All doses as a table", doses.by_task(c.doses))],
        ),
    ]  # fmt: skip
    found = [
        _verdict(context, [one for one in studies if one is not None]),
        _claims(context),
        _headline(context),
        _finished("rounds", "Rounds", "Rounds", context.rounds),
        _finished("probes", "Further", "Further test sets", context.probes),
        *studies,
        _drawn_section(
            context, "frontier", "Sweep", "Gain against forgetting over the sweep",
            ["A method that is trained harder gains more and forgets more, so methods are compared "
            "over all learning rates and steps."],
            ["frontier"], [("Hypervolumes", tables.areas(c.areas, marks)),
                           ("Differences between methods", tables.differences(
                               c.area_differences, marks))],
        ),
        _drawn_section(
            context, "several", "pass@k", "Several samples of a prompt", [], [],
            [("", tables.several(context.several, marks))],
        ),
        _drawn_section(
            context, "break-even", "Break-even", "When training has paid for the context", [], [],
            [("", tables.break_even(context.break_even, marks))],
        ),
        _context(context),
        _samples(context),
        *_details(context),
        _finished("published", "Published", "Published numbers", context.published),
        _finished("external", "External", "External results", context.external),
        PageSection("provenance", "Provenance", "Where the numbers come from", folded=True),
    ]  # fmt: skip
    return [section for section in found if section is not None]


def _details(context: PageContext) -> list[PageSection | None]:
    """What only some readers look for: folded."""
    c, marks = context.comparison, context.marks
    found = [
        _drawn_section(
            context, "forgetting", "Forgetting", "What was gained on test, and what was forgotten",
            ["Learning rate and step were chosen on dev; test was scored once."],
            ["forgetting", "retention-steps"], [],
        ),
        _drawn_section(context, "curves", "Curves", "Training curves", [], ["curves"], []),
        _drawn_section(
            context, "factorial", "Choices", "Which choice the effects come from",
            ["Methods that differ in a single choice, and the four combinations of two choices, "
            "all else equal."],
            ["factorial"], [("All effects as a table", tables.effects(c.effects, marks))],
        ),
        _drawn_section(
            context, "pairwise", "Pairs", "Every method against every other", [],
            ["pairwise"], [("All pairs as a table", tables.pairs(c.matrix, marks))],
        ),
        _drawn_section(
            context, "instructions", "Instructions", "Which instructions were forgotten", [],
            ["instructions"],
            [("All instruction types as a table", tables.instructions(c.instructions, marks))],
        ),
    ]  # fmt: skip
    return [None if one is None else one._replace(folded=True) for one in found]


def _verdict(context: PageContext, studies: Sequence[PageSection]) -> PageSection | None:
    """The verdict, where the claims and studies stand, and the summary figure."""
    figures = [_figure(one) for one in context.drawn if one.kind == summary.KIND]
    said = Markup("").join(
        Markup('<p class="verdict"><strong>{}:</strong> {}</p>\n').format(one.task, one.text)
        for one in context.verdicts
    )
    if context.concluded:
        said += Markup('<p class="verdict"><a href="#claims">{}</a></p>\n').format(
            context.concluded
        )
    if not said and not figures:
        return None
    if studies:
        links = Markup(" · ").join(
            Markup('<a href="#{}">{}</a>').format(one.id, one.title) for one in studies
        )
        said += Markup('<p class="verdict">Studied: {}</p>\n').format(links)
    blocks = [Block(html=said), Block(figures=figures)]
    if context.apart:
        blocks.append(Block(html=Markup(context.apart), fold="Which methods are separated"))
    return PageSection("verdict", "In short", "In short", (), blocks)


def _claims(context: PageContext) -> PageSection | None:
    """What the suite was run to decide, the conclusion first."""
    if not context.claims:
        return None
    figures = [_figure(one) for one in context.drawn if one.kind == claims.KIND]
    blocks = [Block(html=Markup(context.claims)), Block(figures=figures)]
    return PageSection("claims", "Claims", "Claims", (context.concluded,), blocks)


def _headline(context: PageContext) -> PageSection | None:
    """The tables; folded what the numbers are, and the other learning rates."""
    if not context.headline:
        return None
    folds = {
        "What the numbers are": context.words,
        "All columns and learning rates": context.all_rates,
    }
    blocks = [
        Block(html=Markup(context.headline)),
        *(Block(html=Markup(html), fold=fold) for fold, html in folds.items() if html),
    ]
    return PageSection("headline", "Comparison", "Comparison", (), blocks)


def _finished(
    name: str, short: str, title: str, html: str, intro: Sequence[str] = ()
) -> PageSection | None:
    """What another module made HTML of; it may have an ``intro`` alone."""
    blocks = [Block(html=Markup(html))] if html else []
    return PageSection(name, short, title, intro, blocks) if blocks or intro else None


PROBED = {
    "prefix": ("Prefixes", "What teachers make of a student's own tokens"),
    "optimum": ("Optimum", "The best that a student without context can be"),
}
"""Kind of probe -> its name where sections are listed, and its title."""


def _probed(found: Probed) -> PageSection:
    """What a probe of the runs came to: its figures, and its tables."""
    short, title = PROBED[found.kind]
    blocks = [
        Block(figures=[_figure(one) for one in found.drawn]),
        Block(html=Markup(sections_html(found.sections))),
    ]
    return PageSection(f"probe-{found.kind}", short, title, found.said, blocks)


def _studied(one: Studied) -> PageSection:
    """What a study came to, the conclusion first, then the numbers and their figures."""
    figures = [_figure(figure) for figure in one.drawn]
    blocks = [Block(html=Markup(sections_html(one.tables))), Block(figures=figures)]
    return PageSection(one.id, one.short, one.title, one.said, blocks)


def _context(context: PageContext) -> PageSection | None:
    """What in-context teachers read, a fold a context."""
    given = [
        (f"{task}: {_where(one, told)}", one.text)
        for task in context.tasks
        if (told := context.contexts.get(task)) is not None
        for one in told.contexts.pool
    ]
    blocks = [
        Block(html=Markup('<pre tabindex="0">{}</pre>\n').format(text), fold=what)
        for what, text in [*given, *context.lessons]
    ]
    if not blocks:
        return None
    return PageSection("context", "Context", "What in-context teachers read", (), blocks)


def _where(one: Context, told: StoredContexts) -> str:
    """Where a context goes and how long it is; of a pool the mean length says nothing of one."""
    places = {"system": "in a system message", "user": "at the head of the user message",
              "inside": "inside the user message"}  # fmt: skip
    words = places[one.placement]
    if len(told.contexts.pool) == 1 and told.context_tokens == told.context_tokens:
        words += f", {told.context_tokens:,.0f} tokens"
    return f"{words} (hash {one.hash})"


def _samples(context: PageContext) -> PageSection | None:
    if not context.sample_count:
        return None
    said = (
        f"{context.sample_count:,} examples of the finished runs, side by side: what was asked, "
        "how each method responded, and how it was graded."
    )
    return PageSection("samples", "Samples", "Samples", (said,), folded=True)


def _drawn_section(
    context: PageContext,
    name: str,
    short: str,
    title: str,
    intro: Sequence[str],
    kinds: Sequence[str],
    shown: Sequence[tuple[str, tables.ByTask]],
) -> PageSection | None:
    """Of each task its figures of ``kinds`` and its tables; None where there is none of either.

    ``shown``: tables, each with the words that it is folded below ("": it is not).
    """
    blocks = []
    for task in context.tasks:
        figures = [one for one in context.drawn if one.task == task and one.kind in kinds]
        figures.sort(key=lambda one: kinds.index(one.kind))
        heading = task if len(context.tasks) > 1 and figures else ""
        parts = [Block(figures=[_figure(one) for one in figures])] if figures else []
        parts += [
            Block(html=Markup(sections_html(by_task[task])), fold=fold)
            for fold, by_task in shown
            if task in by_task
        ]
        if parts:
            blocks += [parts[0]._replace(heading=heading), *parts[1:]]
    return PageSection(name, short, title, intro, blocks) if blocks else None


def _figure(one: DrawnFigure) -> SimpleNamespace:
    """What the template needs of a figure."""
    return SimpleNamespace(
        name=one.name, kind=one.kind, task=one.task, caption=one.caption, alt=one.alt,
        wide=one.wide, narrow=one.narrow, path=f"figures/{one.name}",
    )  # fmt: skip
