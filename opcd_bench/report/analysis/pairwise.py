"""Every method against every other: paired differences, corrected tests, instruction types."""

from __future__ import annotations

import numpy as np
import pandas as pd

from opcd_bench.report.analysis import discrimination, headline, statistics
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.analysis.statistics import Floats

MATRIX = ["task", "measured", "method", "other", "difference", "p", "p_holm", "n", "seeds"]
INSTRUCTIONS = [
    "task", "measured", "method", "instruction", "before", "after", "change", "n", "seeds",
]  # fmt: skip


def matrix(results: StoredResults) -> pd.DataFrame:
    """One row a pair of methods of a task (``method`` before ``other`` by name), each at its rate.

    `discrimination.pairs` of the accuracies alone. ``difference``: method minus other on
    ``measured`` ("test" or a retention task, where the difference of the scores after training is
    that of the changes), paired by example over the ``seeds`` that both ran, with an interval that
    holds for one pair alone. ``p``, ``p_holm``: of all pairs, measures and tasks; trust them where
    the interval disagrees.
    """
    return accuracies(discrimination.pairs(results))


def accuracies(pairs: pd.DataFrame) -> pd.DataFrame:
    """`matrix`, of pairs that are known."""
    of_scores = (pairs["unit"] == "share") & (pairs["kind"] != "efficiency")
    return pairs.loc[of_scores, MATRIX].reset_index(drop=True)


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
