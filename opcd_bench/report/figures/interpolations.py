"""Interpolations: gain against forgetting on the way from the base to each trained student."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from opcd_bench.report.analysis.entrants import INTERPOLATION
from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.files import DrawnFigure, made
from opcd_bench.report.figures.forgetting import seeds_of
from opcd_bench.report.figures.plane import compared, plane
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.figures.words import AT_RATE, interval_words, listed, summed_seeds

KIND = "interpolations"
DATA = [
    "measured", "method", "learning_rate", "share", "seeds", "gain", "gain_low", "gain_high",
    "change", "change_low", "change_high",
]  # fmt: skip


def data(entered: pd.DataFrame, points: pd.DataFrame, task: str) -> pd.DataFrame:
    """Every share of the way of a task's methods, the trained student's (1) the last; in shares.

    ``entered``: entrants.frame; ``points``: forgetting.points, of which those of all seeds count.
    Methods without an interpolation at the rate where they are compared are left out.
    """
    whole = points[(points["task"] == task) & points["seed"].isna()].assign(share=1.0)
    whole = whole.assign(seeds=whole["method"].map(seeds_of(points, task)))
    mine = entered[(entered["task"] == task) & (entered["kind"] == INTERPOLATION)]
    on_the_way = [
        {
            "measured": at.measured,
            "method": at.method,
            "learning_rate": at.learning_rate,
            "share": float(row["share"]),
            "seeds": row["seeds"],
            "gain": row["gain"],
            "change": row[f"{at.measured} change"],
        }
        for at in whole.itertuples()
        for row in mine.to_dict("records")
        if (row["method"], row["learning_rate"]) == (at.method, at.learning_rate)
        and hasattr(row.get(f"{at.measured} change"), "value")
    ]
    known = {row["method"] for row in on_the_way}
    ends = whole.loc[whole["method"].isin(known), [*DATA[:5], "gain", "change"]]
    both = pd.concat([pd.DataFrame(on_the_way, columns=ends.columns), ends], ignore_index=True)
    flat = both.drop(columns=["gain", "change"])
    flat = flat.join(look.spread(both, "gain")).join(look.spread(both, "change"))
    return flat.sort_values(["measured", "method", "share"], ignore_index=True)[DATA]


def drawn(flat: pd.DataFrame, task: str, marks: Marks) -> DrawnFigure:
    """The figure of a task; ``flat``: its `data`."""
    shares = sorted({share for share in flat["share"] if share < 1})
    ways = listed([f"{100 * share:g} %" for share in shares])
    caption = (
        f"Gain on test against change in retention, in points against the base (+), {ways} of the "
        "way from the base's weights to the trained student's, which is the large point, with "
        f"{interval_words('examples', flat['seeds'])}, {AT_RATE}. Nothing is trained for "
        "the points between. A line that bulges up and to the right "
        "forgets less for the same gain than less training would. "
        f"{summed_seeds(flat['seeds'])}"
    )
    alt = (
        f"{task}: gain against change in {listed(sorted(set(flat['measured'])))} between the base "
        f"and each trained student. {conclusion(flat, marks)}"
    )
    return made(task, KIND, caption, alt, flat, lambda narrow: _draw(flat, marks, narrow=narrow))


def conclusion(flat: pd.DataFrame, marks: Marks) -> str:
    """Of each method what the share in the middle gains and forgets, beside the whole way."""
    parts = []
    for measured, rows in flat.groupby("measured", sort=True):
        for method in look.ordered(marks, rows["method"]):
            mine = rows[rows["method"] == method]
            between, (end,) = mine[mine["share"] < 1], mine[mine["share"] == 1].itertuples()
            half = between.iloc[(between["share"] - 0.5).abs().argmin()]
            parts.append(
                f"{marks[method].label}, {100 * half['share']:g} % of the way: gain "
                f"{look.change(half['gain'])} of {look.change(end.gain)} points, {measured} "
                f"{look.change(half['change'])} of {look.change(end.change)}"
            )
    return f"{'; '.join(parts)}." if parts else ""


def _draw(flat: pd.DataFrame, marks: Marks, *, narrow: bool) -> Figure:
    def draw(panel: Axes, part: pd.DataFrame) -> None:
        for method in look.ordered(marks, part["method"]):
            mine, mark = part[part["method"] == method], marks[method]
            panel.plot(
                [0.0, *mine["gain"]], [0.0, *mine["change"]], marker=mark.marker,
                color=mark.colour, linestyle=mark.line, markersize=4, zorder=3,
            )  # fmt: skip
            compared(panel, mine[mine["share"] == 1], mark)

    nothing_close_up = flat["share"] > 1
    handles = look.handles(marks, flat["method"])
    return plane(flat, nothing_close_up, handles, draw, "gain on test (points)", narrow=narrow)
