"""Everything that the page of the report shows, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from opcd_bench.report.analysis.comparison import Comparison
from opcd_bench.report.analysis.contexts import StoredContexts
from opcd_bench.report.figures.files import DrawnFigure
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.page.probed import Probed
from opcd_bench.report.page.studied import Studied
from opcd_bench.report.page.verdict import Verdict


@dataclass(frozen=True)
class PageContext:
    """Everything that index.html shows; render.py makes it from the results.

    ``name`` and ``summary``: of suite.json ("" where it has no summary). ``command``: what rebuilds
    the page. ``marks``, ``tasks``: all methods and tasks, in the order in which they stand
    everywhere. ``verdicts``: what the statistics say of each task; ``apart``: which methods are
    separated. ``headline``: each method where it is compared; ``all_rates``: at every learning
    rate; ``words``: what the numbers are. These, ``rounds``, ``probes``, ``claims``,
    ``sensitivity``, ``published`` and ``external`` are finished HTML, escaped where it is made (""
    where there is none).
    ``comparison``: comparison.compare(results). ``drawn``: catalogue.draw(…), whose files lie in
    ``figures/`` beside the page. ``several``, ``break_even``: frames of the functions of that name.
    ``concluded``: one line on the claims; ``varies``: one a task on ``sensitivity``. ``probed``:
    what `opcd-bench probe` stored. ``studied``: studied.studied(…). ``contexts``: task -> what
    in-context teachers read; ``lessons``: the same of rounds, each with what it is. ``cells``:
    Results.cells, for the provenance. ``protocols``: columns task, measured, split, protocol_hash.
    ``missing``: columns task, learning_rate, method, state (why it is missing).
    ``sample_count``: items in the sample browser (0: no browser), whose files lie in ``samples/``.
    ``downloads``: label -> path of a file beside the page, such as "headline.csv". ``overlap``:
    task -> how many test questions stand in its train split. ``notes``: sentences that stand above
    everything, such as warnings.

    The page gives every run an anchor: a table may link to ``#run-<run id>``.
    """

    name: str
    summary: str
    command: str
    marks: Marks
    tasks: Sequence[str]
    comparison: Comparison
    drawn: Sequence[DrawnFigure]
    cells: pd.DataFrame
    protocols: pd.DataFrame
    missing: pd.DataFrame
    verdicts: Sequence[Verdict] = ()
    apart: str = ""
    headline: str = ""
    all_rates: str = ""
    words: str = ""
    several: pd.DataFrame = field(default_factory=pd.DataFrame)
    break_even: pd.DataFrame = field(default_factory=pd.DataFrame)
    contexts: Mapping[str, StoredContexts] = field(default_factory=dict)
    rounds: str = ""
    lessons: Sequence[tuple[str, str]] = ()
    probes: str = ""
    claims: str = ""
    concluded: str = ""
    sensitivity: str = ""
    varies: Sequence[str] = ()
    probed: Sequence[Probed] = ()
    studied: Sequence[Studied] = ()
    published: str = ""
    external: str = ""
    sample_count: int = 0
    downloads: Mapping[str, str] = field(default_factory=dict)
    overlap: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
