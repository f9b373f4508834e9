"""The comparison's frames as tables of the page, of each task one or more."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from opcd_bench.report.figures.words import factor_words, levels_words, listed, measures
from opcd_bench.report.tables.layout import Section, of_frame

ByTask = Mapping[str, list[Section]]
"""Task -> its tables."""


def areas(frame: pd.DataFrame) -> ByTask:
    """frontier.areas: methods down, retention tasks across."""

    def table(task: str, rows: pd.DataFrame) -> list[Section]:
        shown = pd.DataFrame({"method": sorted(set(rows["method"]))})
        for name in measures(rows["measured"]):
            part = rows[rows["measured"] == name].set_index("method")
            shown[f"{name}: hypervolume (%)"] = [part["area"].get(m) for m in shown["method"]]
            shown[f"{name}: bias"] = [_points(part["bias"].get(m)) for m in shown["method"]]
        rates = listed([f"{rate:g}" for rate in rows["rates"].iloc[0]])
        return [of_frame(f"{task}: hypervolume of each method's points", shown, (
            "Hypervolume: the area that all points of a method dominate together, in % of "
            "(ceiling − base on test) × (retention before). 100 means that the whole gap was "
            "closed and nothing was forgotten. Learning rates that all methods finished: "
            f"{rates}. The area takes the best of many points, so chance adds to it; bias is the "
            "bootstrap's estimate of how much, in points."
        ))]  # fmt: skip

    return _by_task(frame, table)


def differences(frame: pd.DataFrame) -> ByTask:
    """frontier.area_differences: pairs down, retention tasks across."""

    def table(task: str, rows: pd.DataFrame) -> list[Section]:
        pairs = rows[["method", "other"]].drop_duplicates().sort_values(["method", "other"])
        shown = pairs.reset_index(drop=True)
        for name in measures(rows["measured"]):
            part = rows[rows["measured"] == name].set_index(["method", "other"])["difference"]
            keys = zip(shown["method"], shown["other"], strict=True)
            shown[f"{name}: difference (points)"] = [part.get(key) for key in keys]
        return [of_frame(f"{task}: hypervolume of method minus hypervolume of other", shown, (
            "Both use the same resamples, so what they share cancels. Not corrected for the "
            "number of pairs."
        ))]  # fmt: skip

    return _by_task(frame, table)


def effects(frame: pd.DataFrame) -> ByTask:
    """factorial.effects: effects down, measures across."""

    def table(task: str, rows: pd.DataFrame) -> list[Section]:
        rows = rows.assign(
            methods=[", ".join(methods) for methods in rows["methods"]],
            levels=list(map(levels_words, rows["factor"], rows["levels"])),
            factor=list(map(factor_words, rows["factor"])),
        )
        keys = ["factor", "levels", "methods"]
        shown = rows[keys].drop_duplicates().reset_index(drop=True)
        for name in measures(rows["measured"]):
            part = rows[rows["measured"] == name].set_index(keys)["effect"]
            wanted = shown[keys].itertuples(index=False, name=None)
            shown[f"{name} (points)"] = [part.get(key) for key in wanted]
        notes = "; ".join(dict.fromkeys(note for note in rows["note"] if note))
        note = f"Note: {notes}." if notes else ""
        return [of_frame(f"{task}: effects", shown, note)]

    return _by_task(frame, table)


def pairs(frame: pd.DataFrame) -> ByTask:
    """pairwise.matrix: a table a measure."""

    def table(task: str, rows: pd.DataFrame) -> list[Section]:
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


def instructions(frame: pd.DataFrame) -> ByTask:
    """pairwise.instructions: types down, methods across."""

    def table(task: str, rows: pd.DataFrame) -> list[Section]:
        return [_instructions(f"{task}, {name}", part) for name, part in rows.groupby("measured")]

    return _by_task(frame, table)


def _instructions(title: str, rows: pd.DataFrame) -> Section:
    first = rows.drop_duplicates("instruction").set_index("instruction")
    shown = pd.DataFrame({"instruction": sorted(first.index)})
    shown["prompts"] = [f"{first.loc[kind, 'n']:d}" for kind in shown["instruction"]]
    shown["before (%)"] = [f"{100 * first.loc[k, 'before']:.1f}" for k in shown["instruction"]]
    for method in sorted(set(rows["method"])):
        part = rows[rows["method"] == method].set_index("instruction")["change"]
        shown[f"{method} (points)"] = [part.get(kind) for kind in shown["instruction"]]
    return of_frame(f"{title}: change by instruction type", shown, (
        "Each type has its own interval over prompts. With so few prompts per type the intervals "
        "are too narrow, and they are not corrected for the number of types."
    ))  # fmt: skip


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
