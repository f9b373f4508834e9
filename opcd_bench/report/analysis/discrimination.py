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
    "mde_corrected", "margin", "p_equivalent", "p_equivalent_holm", "equivalent", "n", "seeds",
]  # fmt: skip
SUMMARY = [
    *KEYS, "methods", "pairs", "separated", "equivalent", "undecided", "between", "within", "ratio",
    "mde", "mde_corrected", "margin", "seeds", "single",
]  # fmt: skip
ONE_TRAINING = (
    "Each method is compared by one training, so this orders these trainings and not the methods."
)


def pairs(results: StoredResults) -> pd.DataFrame:
    """One row a (task, measure, pair of methods), each method at its headline rate.

    ``difference``: ``method`` minus ``other`` (by name), paired by example over the ``seeds`` that
    both ran, with an interval for this pair alone. The variance between seeds is estimated from
    all pairs of a measure together (`moderated`). ``p``: `significance.p_of_difference`;
    ``p_holm``: corrected by Holm over all pairs, measures and tasks, so that where no method
    differs from any other a p_holm of 0.05 or less comes in at most one of twenty suites.
    ``separated``: that is so, and ``winner`` is the better one. ``mde``: the smallest difference
    that one such test finds with 80 % power; ``mde_corrected``: the same at 0.05 / the number of
    tests, from which on it is separated whatever the others are. ``p_equivalent``,
    ``p_equivalent_holm``, ``equivalent``: the same of the two being closer than ``margin``
    (`equivalence`). Neither separated nor equivalent is undecided.

    A method that stands at the base is compared on gain and efficiency alone (`Measure.compared`).
    A pair with a ``control`` is corrected among its like, and is lent the variance that the others
    have in common: it shows that the harness works, and takes no part in what methods are judged
    by. Over one seed all this holds for these trainings alone. So where others of its measure share
    `statistics.FEWEST_SEEDS`, a pair that shares fewer is tested for nothing: it would be the
    surest of all.
    """
    found = [
        (one, a, b, spread) for one in measured(results) for a, b, spread in _spreads(one.compared)
    ]
    rows = [
        {**one.keys(), **_pair(one, a, b, equivalence.margin(results.suite, one.unit), spread)}
        for one, a, b, spread in found
    ]
    frame = pd.DataFrame(rows, columns=PAIRS)
    frame.loc[_surer_by_less(frame), ["p", "p_equivalent", "mde"]] = math.nan
    for control in (False, True):
        family = frame["control"].eq(control)
        for p, corrected, decided in (
            ("p", "p_holm", "separated"),
            ("p_equivalent", "p_equivalent_holm", "equivalent"),
        ):
            known = family & frame[p].notna()
            frame.loc[known, corrected] = significance.holm(frame.loc[known, p].tolist())
            frame.loc[known, decided] = frame.loc[known, corrected] <= LEVEL
        tested = frame.index[family & frame["p"].notna()]
        for row in tested:
            _, a, b, spread = found[row]
            frame.loc[row, "mde_corrected"] = significance.minimum_detectable_effect(
                a.scores, b.scores, level=LEVEL / len(tested), spread=spread
            )
    frame["winner"] = list(map(_winner, frame.to_dict("records")))
    bools = dict.fromkeys(("control", "separated", "equivalent"), bool)
    floats = dict.fromkeys(("p_holm", "p_equivalent_holm", "mde_corrected"), float)
    return frame.astype({**bools, **floats})


def _surer_by_less(frame: pd.DataFrame) -> pd.Series:
    """Which pairs share too few seeds to conclude from, where others of their measure do not."""
    shared = frame["seeds"].map(len).astype(int)
    most = shared.groupby([frame[key] for key in KEYS]).transform("max")
    return (shared < statistics.FEWEST_SEEDS) & (most >= statistics.FEWEST_SEEDS)


def _spreads(members: Sequence[Member]) -> Iterator[tuple[Member, Member, Spread | None]]:
    """Every pair with the spread of its difference; those without a control learn of each other."""
    found = [
        (a, b, significance.spread_of(a.scores, b.scores)) for a, b in combinations(members, 2)
    ]
    aside = [spread for a, b, spread in found if _controlled(a, b)]
    judged = [spread for a, b, spread in found if not _controlled(a, b)]
    count = sum(
        not member.stands.control and len(member.stands.seeds) >= statistics.FEWEST_SEEDS
        for member in members
    )
    every = moderated(judged, count, aside)
    lent, lent_aside = iter(every[: len(judged)]), iter(every[len(judged) :])
    for a, b, _ in found:
        yield a, b, next(lent_aside if _controlled(a, b) else lent)


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
        "mde_corrected": math.nan,
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
    than the seed of the training. NaN with one seed. ``mde``, ``mde_corrected``: the largest of the
    pairs; ``seeds``: the fewest that two methods share; ``single``: how many pairs share fewer than
    `statistics.FEWEST_SEEDS`. ``found``: `pairs`, if they are known.
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
                "mde_corrected": float(mine["mde_corrected"].max()),
                "margin": float(mine["margin"].iloc[0]),
                "seeds": min(map(len, mine["seeds"])),
                "single": sum(len(one) < statistics.FEWEST_SEEDS for one in mine["seeds"]),
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
    return f"{said}.{_of_single(table)}"


def cannot_be(difference: float, kind: str, unit: str) -> bool:
    """Whether two methods cannot differ by so much: accuracies differ by 1 at most.

    Of efficiency, a share of the gap, more than 1 is unlikely and not impossible.
    """
    whole = 1.0 if unit == "share" and kind != "efficiency" else math.inf
    return math.isinf(difference) or difference > whole


def _of_single(table: pd.DataFrame) -> str:
    """What to make of pairs that share too few seeds, of a `summary`; nothing where none does."""
    whole = table["single"] == table["pairs"]
    if whole.all():
        return f" {ONE_TRAINING}"
    tasks = ", ".join(table.loc[whole, "task"].unique())
    said = f" On {tasks}: {ONE_TRAINING[0].lower()}{ONE_TRAINING[1:]}" if tasks else ""
    few = int(table.loc[~whole, "single"].sum())
    if few:
        said += (
            f" {few} pair{'s' * (few != 1)} share{'s' * (few == 1)} a single seed, where others "
            f"share more, and {'are' if few != 1 else 'is'} undecided: one training says nothing "
            "of the next."
        )
    return said
