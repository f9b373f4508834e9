"""Every method against every other: paired differences, corrected tests, instruction types."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from opcd_bench.report.analysis import headline, statistics
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.analysis.standing import Standing, measures, standings
from opcd_bench.report.analysis.statistics import Floats

MATRIX = ["task", "measured", "method", "other", "difference", "p", "p_holm", "n", "seeds"]
INSTRUCTIONS = [
    "task", "measured", "method", "instruction", "before", "after", "change", "n", "seeds",
]  # fmt: skip


def matrix(results: StoredResults) -> pd.DataFrame:
    """One row a pair of methods of a task (``method`` before ``other`` by name), each at its rate.

    ``difference``: method minus other on ``measured`` ("test" or a retention task, where the
    difference of the scores after training is that of the changes), paired by example over the
    ``seeds`` that both ran, with an interval that holds for one pair alone. ``p``: two-sided sign
    flips of the ``n`` per-example differences; ``p_holm``: corrected by Holm over the pairs of that
    task and measure, so that a table without any true difference has a p_holm of 0.05 or less in
    at most one of twenty such tables. It is not corrected over measures and tasks. Where only a
    handful of examples differ the interval is too narrow (a bootstrap draws no outcome that did not
    occur) and the flips are exact: trust p where the two disagree.

    Examples are what is drawn anew; seeds are averaged first. A small p says that these trainings
    differ on such examples, not that the methods would differ with other seeds.
    """
    rows: list[dict[str, Any]] = []
    for task, methods in standings(results).items():
        for measured in measures(methods):
            scored = [method for method in methods if measured in method.scores]
            pairs = [
                {"task": task, "measured": measured, **_pair(a, b, measured)}
                for a, b in combinations(scored, 2)
            ]
            known = [row for row in pairs if row["n"] > 0]
            corrected = statistics.holm([row["p"] for row in known])
            for row, p in zip(known, corrected, strict=True):
                row["p_holm"] = p
            rows += pairs
    return pd.DataFrame(rows, columns=MATRIX)


def _pair(a: Standing, b: Standing, measured: str) -> dict[str, Any]:
    x, y = a.scores[measured], b.scores[measured]
    difference = statistics.difference(x, y)
    return {
        "method": a.method,
        "other": b.method,
        "difference": difference,
        "p": statistics.permutation_p(x, y) if difference.n else float("nan"),
        "p_holm": float("nan"),
        "n": difference.n,
        "seeds": tuple(sorted(set(a.seeds) & set(b.seeds))),
    }


def instructions(results: StoredResults) -> pd.DataFrame:
    """Which instructions were forgotten: one row a (task, measure, method, instruction type).

    ``before`` and ``after``: shares of the instructions of this type that were followed (strict),
    by the base and by the method over its headline seeds. ``change``: after minus before, its
    interval clustered by prompt; ``n`` prompts hold the type. With a dozen prompts a type such an
    interval is too narrow (a bootstrap cannot see outcomes that did not occur), and none of them is
    corrected for the number of types: they say where to look, not what is proved.
    """
    stored = results.instructions
    if stored.empty:
        return pd.DataFrame(columns=INSTRUCTIONS)
    told = stored.assign(followed=stored["followed"].astype(float))
    base = _by_prompt(told[told["method"].isna()], [])
    rows = []
    for point in headline.points(results).itertuples():
        mine = told[
            (told["task"] == point.task)
            & (told["method"] == point.method)
            & (told["learning_rate"] == point.learning_rate)
            & told["seed"].isin(point.seeds)
        ]
        both = base.join(_by_prompt(mine, ["seed"]).add_suffix("_after"), how="inner")
        for (measured, instruction), part in both.groupby(level=[0, 1], sort=True):
            columns = ("followed", "followed_after", "count")
            before, after, count = (part[column].to_numpy(dtype=float) for column in columns)
            rows.append(
                {
                    "task": point.task,
                    "measured": measured,
                    "method": point.method,
                    "instruction": instruction,
                    "before": float(before.sum() / count.sum()),
                    "after": float(after.sum() / count.sum()),
                    "change": statistics.interval_of(_share, after - before, count),
                    "n": len(part),
                    "seeds": tuple(point.seeds),
                }
            )
    return pd.DataFrame(rows, columns=INSTRUCTIONS)


def _by_prompt(rows: pd.DataFrame, seed: list[str]) -> pd.DataFrame:
    """How often a prompt gives an instruction, and how often it was followed (mean over seeds)."""
    keys = ["measured", "instruction", "example_id"]
    each = rows.groupby([*keys, *seed], sort=True)["followed"].agg(followed="sum", count="size")
    return each.groupby(level=keys, sort=True).mean()


def _share(change: Floats, count: Floats, axis: int = -1) -> Floats:
    """Ratio of sums: instructions gained or lost per instruction, prompts being what is drawn."""
    share: Floats = np.sum(change, axis=axis) / np.sum(count, axis=axis)
    return share
