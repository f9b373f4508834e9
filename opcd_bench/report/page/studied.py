"""What a study shows over all of its tasks or teachers: each a line, its figures and its data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from opcd_bench.report.analysis import entrants, optima, pools, prefixes, qualities, rescue
from opcd_bench.report.analysis.comparison import Comparison
from opcd_bench.report.analysis.contexts import StoredContexts
from opcd_bench.report.analysis.flat import of_entrants as flat_entrants
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.figures import interpolations
from opcd_bench.report.figures import pools as pool_figure
from opcd_bench.report.figures import qualities as quality_figure
from opcd_bench.report.figures import rescue as rescue_figure
from opcd_bench.report.figures.files import DrawnFigure
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.page.probed import Probed
from opcd_bench.report.tables import layout
from opcd_bench.report.tables.layout import Section

RESCUED = ["method", "teacher", "rescue", "gain"]


@dataclass(frozen=True)
class Studied:
    """A section of the page: the ``said`` lines, tables, figures, and the frames of both."""

    id: str
    short: str
    title: str
    said: Sequence[str]
    tables: Sequence[Section]
    drawn: Sequence[DrawnFigure]
    frames: Mapping[str, pd.DataFrame]


def studied(
    results: StoredResults,
    table: pd.DataFrame,
    comparison: Comparison,
    told: Mapping[str, StoredContexts],
    probes: Sequence[Probed],
    marks: Marks,
) -> list[Studied]:
    """The studies that a suite has data for. ``table``: headline.headline."""
    probed = {one.kind: one.frame for one in probes}
    found = [
        _pools(results, table, told, marks),
        _qualities(table, told, marks),
        _rescue(
            results,
            comparison.groups,
            probed.get("prefix", pd.DataFrame(columns=prefixes.COLUMNS)),
            marks,
        ),
        _entered(results, comparison.forgetting, marks),
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
    both = pd.concat(
        [one for one in (frame, best.assign(method=best["loss"].map(pool_figure.BEST), named=False))
         if len(one)],
        ignore_index=True,
    )  # fmt: skip
    both = both.assign(prompts=["name theirs" if named else "name none" for named in both["named"]])
    table = _spread(both, marks, ["method", "prompts"], "contexts", "gap_closed", pool_figure.many)
    return Studied(
        "pools", "Gap closed", "Gap closed against the number of contexts", [said] if said else [],
        [layout.of_frame("Gap closed, in %", table)], [figure],
        {"pools": frame, "pools_best": best},
    )  # fmt: skip


def _qualities(
    table: pd.DataFrame, told: Mapping[str, StoredContexts], marks: Marks
) -> Studied | None:
    frame = qualities.qualities(table, told)
    if frame.empty:
        return None
    said = quality_figure.conclusion(qualities.changes(frame), marks)
    shown = _spread(
        frame,
        marks,
        ["method"],
        "false_share",
        "accuracy",
        lambda share: f"{100 * share:.0f} % false",
    )
    return Studied(
        "qualities", "False contexts", "Accuracy against how much of the context is false",
        [said] if said else [], [layout.of_frame("Accuracy on test, in %", shown)],
        [quality_figure.drawn(frame, marks)], {"qualities": frame},
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
        [
            layout.of_frame(f"{task}: in %, and points", _named(rows, marks)[RESCUED])
            for task, rows in frame.groupby("task", sort=False)
        ],
        [rescue_figure.drawn(frame, task, marks) for task in tasks], {"rescue": frame},
    )  # fmt: skip


def _entered(results: StoredResults, points: pd.DataFrame, marks: Marks) -> Studied | None:
    """Checkpoints trained elsewhere, and what lies between the base and trained students."""
    frame = entrants.frame(results)
    if frame.empty:
        return None
    ways = {
        str(task): interpolations.data(frame, points, str(task)) for task in frame["task"].unique()
    }
    ways = {task: flat for task, flat in ways.items() if (flat["share"] < 1).any()}
    several = len(ways) > 1
    return Studied(
        "entrants", "Not trained here", "Scored on the same items, and not trained here",
        [f"{task}: {said}" if several else said for task, flat in ways.items()
         if (said := interpolations.conclusion(flat, marks))],
        [layout.of_frame(f"{task}: no methods of this comparison, in % and points",
                         _scored(rows, entrants.in_nats(results, frame)))
         for task, rows in frame.groupby("task", sort=False)],
        [interpolations.drawn(flat, task, marks) for task, flat in ways.items()],
        {"entrants": flat_entrants(frame)},
    )  # fmt: skip


def _scored(rows: pd.DataFrame, inside: Collection[str]) -> pd.DataFrame:
    """What was scored of each, a column a number; rates, and columns ``inside`` nats, as text."""
    kept = [name for name in rows.columns if name not in entrants.COLUMNS]
    rows = rows.assign(
        **{name: [one.text() if isinstance(one, Interval) else "" for one in rows[name]]
           for name in inside}
    )  # fmt: skip
    rates = ["" if pd.isna(rate) else f"{rate:g}" for rate in rows["learning_rate"]]
    found = rows[["name", "seeds", "plain", "gain", *kept]].rename(columns={"plain": "accuracy"})
    found.insert(1, "learning rate", rates)
    found = found.rename(columns={name: f"{name} (nats)" for name in inside})
    return found.astype(object).where(found.notna(), "")


def _named(frame: pd.DataFrame, marks: Marks) -> pd.DataFrame:
    """The methods under their names for readers; what is no method keeps its own."""
    names = [marks[name].label if name in marks else name for name in frame["method"]]
    return frame.assign(method=names)


def _spread(
    frame: pd.DataFrame,
    marks: Marks,
    rows: list[str],
    across: str,
    value: str,
    head: Callable[[float], str],
) -> pd.DataFrame:
    """A row a method, a column a value of ``across``; "" where it lacks one."""
    table = _named(frame, marks).pivot_table(
        index=rows, columns=across, values=value, aggfunc="first", sort=False
    )
    table = table.reindex(columns=sorted(table.columns)).astype(object)
    table = table.where(table.notna(), "").rename(columns=head)
    return table.reset_index()
