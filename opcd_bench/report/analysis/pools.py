"""Gap closed against how many contexts a task's examples divide among themselves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from opcd_bench.report.analysis import along, statistics
from opcd_bench.report.analysis.contexts import StoredContexts

POOLS = ["task", "contexts", "named", "method", "control", "learning_rate", "seeds", "gap_closed"]
BEST = ["task", "contexts", "loss", "gap_closed"]


class Size(NamedTuple):
    """How many contexts a task's examples divide among themselves; ``named``: prompts say which."""

    contexts: int
    named: bool


def sizes(told: Mapping[str, StoredContexts]) -> dict[str, Size]:
    """Task -> its size, of tasks of one context and of those that draw one by example.

    Tasks of one size are left out, since nothing says which of them belongs to the others. Empty
    where fewer than `along.LEAST` differ in number alone.
    """
    found = {}
    for task, one in told.items():
        contexts = one.contexts
        if len(contexts.pool) == 1:
            found[task] = Size(1, named=False)
        elif contexts.by_example:
            found[task] = Size(len(contexts.pool), contexts.named)
    alone = along.alone(found)
    kinds = Counter(size.named for size in alone.values())
    return alone if max(kinds.values(), default=0) >= along.LEAST else {}


def pools(table: pd.DataFrame, told: Mapping[str, StoredContexts]) -> pd.DataFrame:
    """One row a (method, task): columns `POOLS`, by the order of ``table`` and then by contexts.

    ``gap_closed``: on test, at the rate where the method is compared. Rows whose gap is not above
    0 for sure have no interval, and are left out. ``table``: `headline.headline`.
    """
    known = sizes(told)
    rows: list[dict[str, Any]] = []
    for row in table[table["headline"].astype(bool) & (table["seeds"] > 0)].to_dict("records"):
        size = known.get(row["task"])
        if size is None or math.isnan(row["gap closed"].low):
            continue
        about = {name: row[name] for name in ("task", "method", "learning_rate", "seeds")}
        about |= {"control": row.get("control") is True, "gap_closed": row["gap closed"]}
        rows.append({**about, **size._asdict()})
    frame = pd.DataFrame(rows, columns=POOLS).astype({"named": bool, "control": bool})
    return along.ordered(frame, "named", "contexts")


def best(rows: pd.DataFrame, told: Mapping[str, StoredContexts]) -> pd.DataFrame:
    """What the optima of a student without context close of the gap: columns `BEST`.

    `statistics.gap_closed` of the optimum of the ``loss`` (``forward`` or ``reverse`` KL) between
    the base and the in-context teacher, each by whether its likeliest token is right, on the
    probe's examples. Of tasks whose prompts do not name their context, where the probe had the base
    among its students and took every context of the pool. ``rows``: `optima.stored`.
    """
    found: list[dict[str, Any]] = []
    for task, size in sorted(sizes(told).items(), key=lambda item: item[1]):
        base = rows[(rows["task"] == task) & (rows["method"] == "base")]
        if size.named or base.empty or (base["contexts"] != size.contexts).any():
            continue
        student, teacher = _right(base, "student"), _right(base, "teacher")
        for loss in ("forward", "reverse"):
            closed = statistics.gap_closed(_right(base, loss), student, teacher)
            if not math.isnan(closed.value):
                row = {"task": task, "contexts": size.contexts, "loss": loss}
                found.append({**row, "gap_closed": closed})
    return pd.DataFrame(found, columns=BEST)


def _right(rows: pd.DataFrame, who: str) -> pd.DataFrame:
    return rows.assign(score=rows[f"{who}_greedy"].astype(float))


def changes(frame: pd.DataFrame) -> pd.DataFrame:
    """`along.changes` of `pools` from the fewest contexts to the most.

    Of prompts that do not name theirs, without controls.
    """
    mine = frame[~frame["named"] & ~frame["control"]]
    return along.changes(mine, "contexts", "gap_closed")
