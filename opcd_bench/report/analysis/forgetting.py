"""What each method gained against what it forgot, at its headline rate, and when it forgot it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from opcd_bench.report.analysis import headline, statistics
from opcd_bench.report.analysis.headline import TEST
from opcd_bench.report.analysis.load import CELL, StoredResults
from opcd_bench.report.analysis.standing import Standing, measures, standings
from opcd_bench.report.analysis.statistics import Floats

POINTS = [
    "task", "measured", "method", "learning_rate", "seed", "gain", "gap_closed", "change", "pareto",
]  # fmt: skip
BY_STEP = ["task", "measured", "method", "learning_rate", "seed", "step", "value", "change"]


def points(results: StoredResults) -> pd.DataFrame:
    """One row a (task, retention task, method), ``seed`` None, and one row each of its seeds.

    ``gain``: plain on test minus base. ``gap_closed``: gain / (ceiling - base). ``change``:
    retention after minus before. All are shares with an interval over examples, paired with the
    base by example, and over seeds where a row has several; the rows of single seeds say nothing of
    other trainings. Test was read once, after rate and step were chosen on dev, so no choice
    flatters ``gain``.

    ``pareto``: of the all-seeds rows and the base, none gains as much and keeps as much and does
    better in one. It compares values, not intervals; rows of a single seed are never marked.
    """
    rows = []
    for task, methods in standings(results).items():
        for name in measures(methods):
            if name == TEST:
                continue
            base = results.anchor("base", task, TEST), results.anchor("base", task, name)
            kept = [m for m in methods if TEST in m.scores and name in m.scores]
            fixed = {"task": task, "measured": name}
            told = {m.method: results.ceiling(task, m.method) for m in kept}
            whole = [{**fixed, **_point(m, name, None, base, told[m.method])} for m in kept]
            front = on_front(
                [row["gain"].value for row in whole], [row["change"].value for row in whole]
            )
            for row, method, pareto in zip(whole, kept, front, strict=True):
                rows.append({**row, "pareto": pareto})
                for seed in method.seeds:
                    one = _point(method, name, seed, base, told[method.method])
                    rows.append({**fixed, **one, "pareto": False})
    frame = pd.DataFrame(rows, columns=POINTS).astype({"pareto": bool})
    frame["seed"] = pd.Series([row["seed"] for row in rows], dtype=object)
    return frame


def _point(
    method: Standing,
    measured: str,
    seed: int | None,
    base: tuple[pd.DataFrame, pd.DataFrame],
    ceiling: pd.DataFrame,
) -> dict[str, Any]:
    test, kept = method.scores[TEST], method.scores[measured]
    if seed is not None:
        test, kept = test[test["seed"] == seed], kept[kept["seed"] == seed]
    return {
        "method": method.method,
        "learning_rate": method.learning_rate,
        "seed": seed,
        "gain": statistics.difference(test, base[0]),
        "gap_closed": statistics.gap_closed(test, base[0], ceiling),
        "change": statistics.difference(kept, base[1]),
    }


def on_front(gain: Iterable[float], kept: Iterable[float]) -> list[bool]:
    """Which points no other point, nor the base at (0, 0), dominates; NaN is never on the front."""
    x = np.append(np.fromiter(gain, float), 0.0)
    y = np.append(np.fromiter(kept, float), 0.0)
    as_good = (x[:, None] >= x) & (y[:, None] >= y)
    better = (x[:, None] > x) | (y[:, None] > y)
    dominated = (as_good & better).any(axis=0)
    front: list[bool] = (~dominated & ~np.isnan(x) & ~np.isnan(y))[:-1].tolist()
    return front


def by_step(results: StoredResults) -> pd.DataFrame:
    """Retention along the training of each headline run: one row a (seed, evaluated step).

    ``value``: mean score at the step; ``change``: minus that of step 0, over the items that both
    scored. Each row is one training, without an interval: `frontier.points` has that of every step,
    over the items. Runs that are not done are left out.
    """
    stands = {
        (point.task, point.method, point.learning_rate): point.seeds
        for point in headline.points(results).itertuples()
    }
    done = results.cells.loc[results.cells["state"] == "done", "run"]
    steps = results.steps
    steps = steps[(steps["split"] == "retention") & steps["run"].isin(done)]
    rows = []
    for (measured, *cell), part in steps.groupby(["measured", *CELL], sort=True):
        task, method, rate, seed = cell
        scores = dict(zip(part["step"], part["scores"], strict=True))
        if seed in stands.get((task, method, rate), ()) and 0 in scores:
            rows += [
                (task, measured, method, rate, seed, step, _mean(now), _mean(now - scores[0]))
                for step, now in sorted(scores.items())
            ]
    frame = pd.DataFrame(rows, columns=BY_STEP)
    return frame.sort_values(BY_STEP[:6], ignore_index=True)


def _mean(scores: Floats) -> float:
    """Mean of what was scored; NaN where nothing was."""
    scored = scores[~np.isnan(scores)]
    return float(scored.mean()) if len(scored) else math.nan
