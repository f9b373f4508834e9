"""What a study shows over all of its tasks or teachers: each a line, its figures and its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from opcd_bench.report.analysis import optima, pools, prefixes, qualities, rescue
from opcd_bench.report.analysis.contexts import StoredContexts
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.figures import pools as pool_figure
from opcd_bench.report.figures import qualities as quality_figure
from opcd_bench.report.figures import rescue as rescue_figure
from opcd_bench.report.figures.files import DrawnFigure
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.page.probed import Probed


@dataclass(frozen=True)
class Studied:
    """A section of the page: the ``said`` lines, conclusion first, the figures, and the frames."""

    id: str
    short: str
    title: str
    said: Sequence[str]
    drawn: Sequence[DrawnFigure]
    frames: Mapping[str, pd.DataFrame]


def studied(
    results: StoredResults,
    table: pd.DataFrame,
    gains: pd.DataFrame,
    told: Mapping[str, StoredContexts],
    probes: Sequence[Probed],
    marks: Marks,
) -> list[Studied]:
    """The studies that a suite has data for. ``table``: headline.headline; ``gains``: groups."""
    probed = {one.kind: one.frame for one in probes}
    found = [
        _pools(results, table, told, marks),
        _qualities(table, told, marks),
        _rescue(
            results, gains, probed.get("prefix", pd.DataFrame(columns=prefixes.COLUMNS)), marks
        ),
    ]
    return [one for one in found if one is not None]


def _pools(
    results: StoredResults, table: pd.DataFrame, told: Mapping[str, StoredContexts], marks: Marks
) -> Studied | None:
    frame = pools.pools(table, told)
    if frame.empty:
        return None
    greedy = not results.suite.get("eval_temperature")  # as the probe's likeliest tokens are
    rows = optima.stored(results.root) if greedy else pd.DataFrame(columns=optima.ROWS)
    best = pools.best(rows, told)
    figure = pool_figure.drawn(frame, best, marks)
    said = pool_figure.conclusion(pools.changes(frame), marks)
    return Studied(
        "pools", "Gap closed", "Gap closed against the number of contexts", [said] if said else [],
        [figure], {"pools": frame, "pools_best": best},
    )  # fmt: skip


def _qualities(
    table: pd.DataFrame, told: Mapping[str, StoredContexts], marks: Marks
) -> Studied | None:
    frame = qualities.qualities(table, told)
    if frame.empty:
        return None
    said = quality_figure.conclusion(qualities.changes(frame), marks)
    return Studied(
        "qualities", "False contexts", "Accuracy against how much of the context is false",
        [said] if said else [], [quality_figure.drawn(frame, marks)], {"qualities": frame},
    )  # fmt: skip


def _rescue(
    results: StoredResults, gains: pd.DataFrame, probe: pd.DataFrame, marks: Marks
) -> Studied | None:
    cells = results.cells[results.cells["state"] == "done"]
    keys = zip(cells["task"], cells["method"], strict=True)
    frame = rescue.rescues(probe, gains, dict(zip(keys, cells["description"], strict=True)))
    if frame.empty:
        return None
    tasks = list(dict.fromkeys(frame["task"]))
    return Studied(
        "rescue", "Rescue", "What teachers rescue, and what is gained from them",
        [rescue_figure.conclusion(frame, task) for task in tasks],
        [rescue_figure.drawn(frame, task, marks) for task in tasks], {"rescue": frame},
    )  # fmt: skip
