"""The comparison's frames as tables of the page, of each task one or more."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pandas as pd

from opcd_bench.report.analysis.statistics import Interval
from opcd_bench.report.figures import style as look
from opcd_bench.report.figures.style import Marks
from opcd_bench.report.figures.words import (
    effect_notes,
    factor_words,
    levels_words,
    listed,
    measures,
)
from opcd_bench.report.tables.layout import Section, of_frame

READINGS = {
    "base": "base", "ceiling": "in-context teacher", "ceiling-larger": "larger in-context teacher",
}  # fmt: skip
"""What stands beside the methods."""

ByTask = Mapping[str, list[Section]]
"""Task -> its tables."""


def areas(frame: pd.DataFrame, marks: Marks) -> ByTask:
    """frontier.areas: methods down, retention tasks across."""

    def table(task: str, rows: pd.DataFrame) -> list[Section]:
        methods = look.ordered(marks, rows["method"])
        shown = pd.DataFrame({"method": look.labels(marks, methods)})
        for name in measures(rows["measured"]):
            part = rows[rows["measured"] == name].set_index("method")
            shown[f"{name}: hypervolume (%)"] = [part["area"].get(m) for m in methods]
            shown[f"{name}: bias"] = [_points(part["bias"].get(m)) for m in methods]
        rates = listed([f"{rate:g}" for rate in rows["rates"].iloc[0]])
        return [of_frame(f"{task}: hypervolume of each method's points", shown, (
            "Hypervolume: the area that all points of a method dominate together, in % of "
            "(ceiling − base on test) × (retention before). 100 means that the whole gap was "
            "closed and nothing was forgotten. Learning rates that all methods finished: "
            f"{rates}. {_of_sweep(rows)} The area takes the best of many points, so chance "
            "adds to it; bias is the bootstrap's estimate of how much, in points."
        ))]  # fmt: skip

    return _by_task(frame, table)


def _of_sweep(rows: pd.DataFrame) -> str:
    """Which seeds the areas are of, and that their intervals leave trainings as they are."""
    seeds = sorted({int(seed) for found in rows["seeds"] for seed in found})
    ran = f"seed{'s' * (len(seeds) != 1)} {listed(list(map(str, seeds)))}"
    return (
        f"Of {ran}, which all methods have in the sweep. Intervals resample examples and not "
        "trainings: they say nothing about other trainings."
    )


def differences(frame: pd.DataFrame, marks: Marks) -> ByTask:
    """frontier.area_differences: pairs down, retention tasks across."""

    def table(task: str, rows: pd.DataFrame) -> list[Section]:
        rows = _in_order(rows, marks)
        keys = list(dict.fromkeys(zip(rows["method"], rows["other"], strict=True)))
        shown = _pair_labels(pd.DataFrame(keys, columns=["method", "other"]), marks)
        for name in measures(rows["measured"]):
            part = rows[rows["measured"] == name].set_index(["method", "other"])["difference"]
            shown[f"{name}: difference (points)"] = [part.get(key) for key in keys]
        return [of_frame(f"{task}: hypervolume of method minus hypervolume of other", shown, (
            "Both use the same resamples, so what they share cancels. Not corrected for the "
            f"number of pairs. {_of_sweep(rows)}"
        ))]  # fmt: skip

    return _by_task(frame, table)


def effects(frame: pd.DataFrame, marks: Marks) -> ByTask:
    """factorial.effects: effects down, measures across."""

    def table(task: str, rows: pd.DataFrame) -> list[Section]:
        note = effect_notes(rows, marks)
        rows = rows.assign(
            methods=[", ".join(marks[name].label for name in names) for names in rows["methods"]],
            levels=list(map(levels_words, rows["factor"], rows["levels"])),
            factor=list(map(factor_words, rows["factor"])),
            seeds=[f"{len(seeds)}" for seeds in rows["seeds"]],
        )
        keys = ["factor", "levels", "methods", "seeds"]
        shown = rows[keys].drop_duplicates().reset_index(drop=True)
        for name in measures(rows["measured"]):
            part = rows[rows["measured"] == name].set_index(keys)["effect"]
            wanted = shown[keys].itertuples(index=False, name=None)
            shown[f"{name} (points)"] = [part.get(key) for key in wanted]
        shown = shown.rename(columns={"methods": "computed from"})
        return [of_frame(f"{task}: effects", shown, note)]

    return _by_task(frame, table)


def pairs(frame: pd.DataFrame, marks: Marks) -> ByTask:
    """pairwise.matrix: a table a measure."""

    def table(task: str, rows: pd.DataFrame) -> list[Section]:
        rows = _pair_labels(_in_order(rows, marks), marks)
        return [
            of_frame(
                f"{task}, {name}: method minus other",
                pd.DataFrame(
                    {
                        "method": part["method"],
                        "other": part["other"],
                        "difference (points)": part["difference"],
                        "p": [_p(p) for p in part["p"]],
                        "p (Holm)": [_p(p) for p in part["p_holm"]],
                        "items": [f"{n:d}" for n in part["n"]],
                        "seeds": [f"{len(seeds)}" for seeds in part["seeds"]],
                    }
                ),
            )
            for name in measures(rows["measured"])
            for part in (rows[rows["measured"] == name],)
        ]

    return _by_task(frame, table)


def instructions(frame: pd.DataFrame, marks: Marks) -> ByTask:
    """pairwise.instructions: types down, methods across."""

    def table(task: str, rows: pd.DataFrame) -> list[Section]:
        return [
            _instructions(f"{task}, {name}", part, marks) for name, part in rows.groupby("measured")
        ]

    return _by_task(frame, table)


def _instructions(title: str, rows: pd.DataFrame, marks: Marks) -> Section:
    first = rows.drop_duplicates("instruction").set_index("instruction")
    shown = pd.DataFrame({"instruction": sorted(first.index)})
    shown["prompts"] = [f"{first.loc[kind, 'n']:d}" for kind in shown["instruction"]]
    shown["before (%)"] = [f"{100 * first.loc[k, 'before']:.1f}" for k in shown["instruction"]]
    for method in look.ordered(marks, rows["method"]):
        part = rows[rows["method"] == method].set_index("instruction")["change"]
        shown[f"{marks[method].label} (points)"] = [part.get(kind) for kind in shown["instruction"]]
    return of_frame(f"{title}: change by instruction type", shown, (
        "Each type has its own interval over prompts. With so few prompts per type the intervals "
        "are too narrow, and they are not corrected for the number of types."
    ))  # fmt: skip


def several(frame: pd.DataFrame, marks: Marks) -> ByTask:
    """several_samples.several: base and in-context teacher, then the methods."""

    def table(task: str, rows: pd.DataFrame) -> list[Section]:
        by_name = rows.set_index("method")
        anchors = [name for name in READINGS if name in by_name.index]
        names = [*anchors, *look.ordered(marks, by_name.index)]
        n = int(rows["samples"].iloc[0])
        mine = by_name.loc[names]
        shown = pd.DataFrame(
            {
                "method": [READINGS.get(name) or marks[name].label for name in names],
                "seeds": [f"{seeds:d}" for seeds in mine["seeds"]],
                "pass@1 (%)": list(mine["pass at 1"]),
                f"pass@{n} (%)": list(mine["pass at all"]),
                f"distinct answers of {n}": [_count(one) for one in mine["distinct"]],
            }
        )
        title = f"{task}: {n} samples of a prompt ({mine['prompts'].max():d} prompts)"
        return [of_frame(title, shown, (
            f"pass@{n}: at least one of {n} samples is correct. Distinct answers: how many "
            "different answers the samples of a prompt give, on average. A method that seeks modes "
            f"may raise pass@1 and lower pass@{n} and the number of answers."
        ))]  # fmt: skip

    return _by_task(frame, table)


def break_even(frame: pd.DataFrame, marks: Marks) -> ByTask:
    """break_even.break_even: what training costs, and when the context saved has paid for it."""

    def table(task: str, rows: pd.DataFrame) -> list[Section]:
        mine = rows.set_index("method").loc[look.ordered(marks, rows["method"])]
        shown = pd.DataFrame(
            {
                "method": look.labels(marks, mine.index),
                "training (TFLOP)": [_rounded(one / 1e12) for one in mine["training"]],
                "gain": list(mine["gain"]),
                "gap closed (%)": list(mine["gap closed"]),
                "response tokens": [f"{one:,.0f}" for one in mine["response tokens"]],
                "queries to break even": list(map(_queries, mine["queries"])),
                "with a prefix cache": list(map(_queries, mine["queries beside a cache"])),
            }
        )
        first = mine.iloc[0]
        return [of_frame(f"{task}: break-even", shown, (
            f"The context has {first['context tokens']:,.0f} tokens, a prompt "
            f"{first['prompt tokens']:,.0f}. A query without context saves reading it; with a "
            "prefix cache only attending to it is saved. It is answered as the student answers: "
            "where the gap is not closed, worse than with the context, and the queries that pay "
            "for the training are no like for like. "
            "never: no gain over the base is shown, so the context cannot be left out. "
            "Counted in arithmetic (2 FLOPs a parameter and token forward, 6 in training), for one "
            "training run: the sweep for the learning rate is left out, and so are memory and time."
        ))]  # fmt: skip

    return _by_task(frame, table)


def _queries(count: float) -> str:
    return "never" if math.isinf(count) else f"{count:,.0f}"


def _in_order(rows: pd.DataFrame, marks: Marks) -> pd.DataFrame:
    """Pairs by the places of their methods."""
    place = {name: number for number, name in enumerate(marks)}
    return rows.sort_values(
        ["method", "other"], kind="stable", ignore_index=True, key=lambda names: names.map(place)
    )


def _pair_labels(rows: pd.DataFrame, marks: Marks) -> pd.DataFrame:
    """Pairs with both methods under their names for readers."""
    return rows.assign(
        **{name: [marks[one].label for one in rows[name]] for name in ("method", "other")}
    )


def _count(one: Interval) -> str:
    """A mean number with its interval, as text."""
    if one.low != one.low:
        return f"{one.value:.2f}"
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]"


def _rounded(number: float) -> str:
    """Two or three digits, without an exponent where it can be helped."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 1 else f"{number:.2g}"


def _by_task(
    frame: pd.DataFrame, table: Callable[[str, pd.DataFrame], list[Section]]
) -> dict[str, list[Section]]:
    return {str(task): table(str(task), rows) for task, rows in frame.groupby("task", sort=True)}


def _points(share: float | None) -> str:
    return "" if share is None or pd.isna(share) else f"{100 * share:.1f}"


def _p(p: float) -> str:
    """As a table prints it: three decimals, and never 0."""
    if pd.isna(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
