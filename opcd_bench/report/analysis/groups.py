"""Which methods of a task are not separated on a measure: groups of them, as letters."""

from __future__ import annotations

import math
import string
from collections.abc import Iterable, Sequence

import pandas as pd

from opcd_bench.report.analysis import discrimination
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.analysis.measured import KEYS, Measure, Member, measured

GROUPS = [
    *KEYS, "method", "control", "learning_rate", "seeds", "value", "rank", "letters", "best",
]  # fmt: skip
LETTERS = string.ascii_lowercase + string.ascii_uppercase


def groups(results: StoredResults, found: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a (task, measure, method), the best first, controls last.

    ``value``: the gain over the base, the area under the learning curve, or the change of
    retention, with its interval. ``letters``: methods with a letter in common are not separated
    (`discrimination.pairs`), and each such group has as many methods as it can have. That is no
    proof that they are alike: ``equivalent`` says that, pair by pair. ``rank``: 1 is the best; 0
    and no letter for what is not compared: controls, what was not scored, and on retention what
    stands at the base. ``best``: in a group with the first.
    ``found``: the pairs, if they are known.
    """
    found = discrimination.pairs(results) if found is None else found
    rows = []
    for one in measured(results):
        mine = found[
            (found["task"] == one.task)
            & (found["measured"] == one.measured)
            & (found["kind"] == one.kind)
            & found["separated"]
        ]
        apart = set(map(frozenset, zip(mine["method"], mine["other"], strict=True)))
        order = ranked(one)
        letters = lettered([member.stands.method for member in order], apart)
        ranks = {member.stands.method for member in order}
        others = [member for member in one.members if member.stands.method not in ranks]
        for rank, member in [*enumerate(order, 1), *((0, other) for other in others)]:
            stands = member.stands
            rows.append(
                {
                    **one.keys(),
                    "method": stands.method,
                    "control": stands.control,
                    "learning_rate": stands.learning_rate,
                    "seeds": stands.seeds,
                    "value": member.value,
                    "rank": rank,
                    "letters": letters[stands.method] if rank else "",
                    "best": bool(rank)
                    and frozenset((stands.method, order[0].stands.method)) not in apart,
                }
            )
    return pd.DataFrame(rows, columns=GROUPS).astype({"control": bool, "best": bool})


def ranked(measure: Measure) -> list[Member]:
    """The methods that were scored and are compared, the best first, without controls."""
    scored = [
        member
        for member in measure.compared
        if not member.stands.control and not math.isnan(member.value.value)
    ]
    return sorted(scored, key=lambda member: -measure.sign * member.value.value)


def lettered(names: Sequence[str], apart: Iterable[frozenset[str]]) -> dict[str, str]:
    """Each name's letters: two share one where they are not ``apart``; ``names`` from the best on.

    The sets of a compact letter display: insert and absorb, after Piepho (2004).
    """
    sets = [set(names)]
    for pair in sorted(apart, key=sorted):
        split = [
            part for one in sets for part in ([one - {x} for x in pair] if pair <= one else [one])
        ]
        sets = []
        for part in sorted(split, key=len, reverse=True):
            if not any(part <= other for other in sets):
                sets.append(part)
    order = {name: place for place, name in enumerate(names)}
    sets.sort(key=lambda one: sorted(order[name] for name in one))
    return {
        name: "".join(LETTERS[i % len(LETTERS)] for i, one in enumerate(sets) if name in one)
        for name in names
    }
