"""Whether methods are separated: every pair on every measure, corrected for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from opcd_bench.report.analysis import equivalence, significance, statistics
from opcd_bench.report.analysis.crossed import Spread
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.analysis.measured import KEYS, Measure, Member, measured
from opcd_bench.report.analysis.moderated import moderated

LEVEL = 0.05
PAIRS = [
    *KEYS, "method", "other", "control", "difference", "p", "p_holm", "separated", "winner", "mde",
    "margin", "p_equivalent", "p_equivalent_holm", "equivalent", "n", "seeds",
]  # fmt: skip
SUMMARY = [
    *KEYS, "methods", "pairs", "separated", "equivalent", "undecided", "between", "within", "ratio",
    "mde", "margin", "seeds",
]  # fmt: skip


def pairs(results: StoredResults) -> pd.DataFrame:
    """One row a (task, measure, pair of methods), each method at its headline rate.

    ``difference``: ``method`` minus ``other`` (by name), paired by example over the ``seeds`` that
    both ran, with an interval for this pair alone. How much seeds differ, the pairs of a measure
    say together, as far as they are alike (`moderated`). ``p``: `significance.p_of_difference`;
    ``p_holm``: corrected by Holm over all pairs, measures and tasks, so that where no method
    differs from any other a p_holm of 0.05 or less comes in at most one of twenty suites.
    ``separated``: that is so, and ``winner`` is the better one. ``mde``: the smallest difference
    that one such test finds with 80 % power. ``p_equivalent``, ``p_equivalent_holm``,
    ``equivalent``: the same of the two being closer than ``margin`` (`equivalence`). Neither
    separated nor equivalent is undecided.

    A method that stands at the base is compared on gain and efficiency alone (`Measure.compared`).
    A pair with a ``control`` is corrected among its like: it shows that the harness works, and
    takes no part in what methods are judged by. Over one seed all this holds for these trainings
    alone.
    """
    rows = [
        {**one.keys(), **_pair(one, *pair, equivalence.margin(results.suite, one.unit), spread)}
        for one in measured(results)
        for pair, spread in _spreads(one.compared)
    ]
    frame = pd.DataFrame(rows, columns=PAIRS)
    for control in (False, True):
        family = frame["control"].eq(control)
        for p, corrected, decided in (
            ("p", "p_holm", "separated"),
            ("p_equivalent", "p_equivalent_holm", "equivalent"),
        ):
            known = family & frame[p].notna()
            frame.loc[known, corrected] = significance.holm(frame.loc[known, p].tolist())
            frame.loc[known, decided] = frame.loc[known, corrected] <= LEVEL
    frame["winner"] = list(map(_winner, frame.to_dict("records")))
    bools = dict.fromkeys(("control", "separated", "equivalent"), bool)
    floats = dict.fromkeys(("p_holm", "p_equivalent_holm"), float)
    return frame.astype({**bools, **floats})


def _spreads(
    members: Sequence[Member],
) -> Iterator[tuple[tuple[Member, Member], Spread | None]]:
    """Every pair with the spread of its difference; those without a control learn of each other."""
    found = [
        (pair, significance.spread_of(pair[0].scores, pair[1].scores))
        for pair in combinations(members, 2)
    ]
    count = sum(not member.stands.control for member in members)
    judged = [spread for pair, spread in found if not _controlled(*pair)]
    lent = iter(moderated(judged, count))
    for pair, spread in found:
        yield pair, spread if _controlled(*pair) else next(lent)


def _controlled(a: Member, b: Member) -> bool:
    return a.stands.control or b.stands.control


def _pair(
    measure: Measure, a: Member, b: Member, margin: float, spread: Spread | None
) -> dict[str, Any]:
    x, y = a.scores, b.scores
    shares = measure.bounded
    difference = statistics.difference(x, y, shares=shares, spread=spread)
    return {
        "method": a.stands.method,
        "other": b.stands.method,
        "control": _controlled(a, b),
        "difference": difference,
        "p": significance.p_of_difference(x, y, spread) if difference.n else math.nan,
        "p_holm": math.nan,
        "separated": False,
        "mde": significance.minimum_detectable_effect(x, y, spread=spread),
        "margin": margin,
        "p_equivalent": equivalence.p_of_equivalence(x, y, margin, shares=shares, spread=spread),
        "p_equivalent_holm": math.nan,
        "equivalent": False,
        "n": difference.examples,
        "seeds": tuple(sorted(set(a.stands.seeds) & set(b.stands.seeds))),
    }


def _winner(row: dict[str, Any]) -> str:
    if not row["separated"]:
        return ""
    first = (row["difference"].value > 0) == (row["better"] == "higher")
    return str(row["method"] if first else row["other"])


def summary(results: StoredResults, found: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a (task, measure): how many ``pairs`` of methods are separated; controls excluded.

    ``separated``, ``equivalent`` and ``undecided`` sum to ``pairs``; one that is both separated and
    closer than the margin counts as separated. ``between``: the variance of the methods' means,
    less what their seeds put into it (0 where that is more); ``within``: the mean variance of a
    method's seeds; ``ratio``: one by the other, above 1 where the choice of the method matters more
    than the seed of the training. NaN with one seed. ``mde``: the largest of the pairs; ``seeds``:
    the fewest that two methods share. ``found``: `pairs`, if they are known.
    """
    found = pairs(results) if found is None else found
    rows = []
    for one in measured(results):
        members = [member for member in one.compared if not member.stands.control]
        mine = found[
            (found["task"] == one.task)
            & (found["measured"] == one.measured)
            & (found["kind"] == one.kind)
            & ~found["control"]
        ]
        if mine.empty:
            continue
        separated = int(mine["separated"].sum())
        equivalent = int((mine["equivalent"] & ~mine["separated"]).sum())
        rows.append(
            {
                **one.keys(),
                "methods": len(members),
                "pairs": len(mine),
                "separated": separated,
                "equivalent": equivalent,
                "undecided": len(mine) - separated - equivalent,
                **_variances(members),
                "mde": float(mine["mde"].max()),
                "margin": float(mine["margin"].iloc[0]),
                "seeds": min(map(len, mine["seeds"])),
            }
        )
    return pd.DataFrame(rows, columns=SUMMARY)


def _variances(members: Sequence[Member]) -> dict[str, float]:
    """Variance between methods, within them, and their ratio; NaN where a method has one seed."""
    scored = [member.scores[member.scores["score"].notna()] for member in members]
    seeds = [scores.groupby("seed")["score"].mean() for scores in scored]
    if len(seeds) < 2 or min(map(len, seeds)) < 2:
        return dict.fromkeys(("between", "within", "ratio"), math.nan)
    within = float(np.mean([one.var(ddof=1) for one in seeds]))
    noise = float(np.mean([one.var(ddof=1) / len(one) for one in seeds]))
    between = max(float(np.var([one.mean() for one in seeds], ddof=1)) - noise, 0.0)
    ratio = between / within if within > 0 else math.inf if between > 0 else math.nan
    return {"between": between, "within": within, "ratio": ratio}


def one_line(table: pd.DataFrame) -> str:
    """One sentence on a `summary`; nothing where there are no pairs."""
    if table.empty:
        return ""
    count, apart, alike = (int(table[name].sum()) for name in ("pairs", "separated", "equivalent"))
    tasks, measures = table["task"].nunique(), int(table.groupby("task").size().max())
    said = (
        f"{apart} of {count} pairs of methods are separated (Holm over all pairs, {measures} "
        f"measure{'s' * (measures != 1)} and {tasks} task{'s' * (tasks != 1)}), {alike} are shown "
        f"to be alike, {count - apart - alike} are undecided"
    )
    alone = (
        " Over one seed, this holds for these trainings alone." if table["seeds"].min() < 2 else ""
    )
    return f"{said}.{alone}"
