"""Learning curves on dev, item by item, as a share of the gap: how high, and how soon."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from opcd_bench.report.analysis import statistics
from opcd_bench.report.analysis.clusters import in_order
from opcd_bench.report.analysis.load import TEST, StoredResults
from opcd_bench.report.analysis.pairing import CLUSTER
from opcd_bench.report.analysis.planned import Key
from opcd_bench.report.analysis.reached import Reached
from opcd_bench.report.analysis.statistics import CONFIDENCE, RESAMPLES, Floats, Interval

SHARES = (0.5, 0.8, 0.95)
"""Shares of the gap whose reaching is timed."""
AREA = "area under curve"
COLUMNS = [AREA, *(f"{what} to {share:.0%}" for what in ("steps", "tokens") for share in SHARES)]


@dataclass(frozen=True)
class Learning:
    """What a method learnt at its headline rate, on dev and against the base.

    ``gained_SKE``: score minus that of step 0 by seed, evaluated step (``steps``, from 0) and item,
    as a share of the gap (ceiling - base, on test); NaN where unscored. ``tokens_SK``: response
    tokens trained on until then. ``clusters``: those of the items, where they have any.
    """

    seeds: tuple[int, ...]
    steps: Floats
    gained_SKE: Floats
    tokens_SK: Floats
    clusters: tuple[str, ...] | None = None

    @property
    def areas_SE(self) -> Floats:
        """Each item's mean over the steps of training: the area under its learning curve."""
        widths = np.diff(self.steps)
        heights = (self.gained_SKE[:, 1:] + self.gained_SKE[:, :-1]) / 2
        areas: Floats = np.einsum("k,ske->se", widths / self.steps[-1], heights)
        return areas

    def samples(self) -> pd.DataFrame:
        """`areas_SE` as samples, an item an example: what is paired and compared like scores."""
        areas = self.areas_SE
        columns = {
            "example_id": np.tile(np.arange(areas.shape[1]), len(self.seeds)),
            "seed": np.repeat(self.seeds, areas.shape[1]),
            "score": areas.ravel(),
        }
        if self.clusters is not None:
            columns[CLUSTER] = np.tile(np.array(self.clusters, dtype=object), len(self.seeds))
        return pd.DataFrame(columns)

    @property
    def area(self) -> Interval:
        """The mean of `areas_SE`, with its interval."""
        return statistics.mean(self.samples(), shares=False)

    def reached(self, share: float) -> tuple[Reached, Reached, int]:
        """Steps and tokens until ``share`` of the gap, and how many of the seeds got there.

        Of the curve averaged over the seeds, straight between evaluations: the first time that it
        is there. So no seed that did not arrive is averaged with those that did. Intervals:
        percentile bootstrap of seeds and items, infinite where the resample's curve does not
        arrive. Of S seeds S - 1 are drawn, which gives their mean the variance that it has; with
        few seeds it is too narrow all the same. The gap is taken as it is.
        """
        known = ~np.isnan(self.gained_SKE).any(axis=(0, 1))
        whole = self.gained_SKE[:, :, known]
        count, _, items = whole.shape
        limit = float(self.steps[-1]), float(self.tokens_SK[:, -1].mean())
        if items == 0:
            nothing = Reached(math.nan, math.nan, math.nan, limit[0])
            return nothing, Reached(math.nan, math.nan, math.nan, limit[1]), 0
        each = whole.mean(axis=2)
        arrived = sum(math.isfinite(one) for one in self._crossed(each, share))
        clusters = np.arange(items) if self.clusters is None else np.array(self.clusters)[known]
        seeds_RS, items_RE = _resamples(count, clusters)
        curves = np.einsum("rs,skr->rk", seeds_RS, whole @ items_RE.T)
        step = self._crossed(each.mean(axis=0)[None], share)
        steps = self._crossed(curves, share)
        evenly = np.full((1, count), 1 / count)
        varies = count > 1 or items > 1
        return (
            _reached(step, steps if varies else None, limit[0]),
            _reached(
                self._tokens(step, evenly),
                self._tokens(steps, seeds_RS) if varies else None,
                limit[1],
            ),
            arrived,
        )

    def _crossed(self, curves_RK: Floats, share: float) -> Floats:
        """The step at which each curve first is at ``share``; infinite where it never is."""
        there = curves_RK >= share
        at = there.argmax(axis=1)
        rows = np.arange(len(curves_RK))
        before = np.maximum(at - 1, 0)
        low, high = curves_RK[rows, before], curves_RK[rows, at]
        part = np.divide(share - low, high - low, out=np.zeros_like(low), where=high > low)
        steps = self.steps[before] + part * (self.steps[at] - self.steps[before])
        crossed: Floats = np.where(there.any(axis=1), steps, math.inf)
        return crossed

    def _tokens(self, steps_R: Floats, seeds_RS: Floats) -> Floats:
        """Tokens trained on at each step, over the seeds of its row; infinite stays infinite."""
        known = np.where(np.isfinite(steps_R), steps_R, 0.0)
        each = np.stack([np.interp(known, self.steps, tokens) for tokens in self.tokens_SK])
        tokens: Floats = np.where(
            np.isfinite(steps_R), np.einsum("rs,sr->r", seeds_RS, each), math.inf
        )
        return tokens


def _resamples(seeds: int, clusters: npt.NDArray[Any]) -> tuple[Floats, Floats]:
    """Weights of the seeds and of the items in each resample; the same for every method.

    Items are drawn by cluster, all of one together.
    """
    draw = np.random.default_rng(0)
    size = max(seeds - 1, 1)
    seeds_RS = draw.multinomial(size, np.full(seeds, 1 / seeds), size=RESAMPLES) / size
    names, places = np.unique(clusters, return_inverse=True)
    count = len(names)
    drawn_RE = draw.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)[:, places]
    return seeds_RS, drawn_RE / drawn_RE.sum(axis=1, keepdims=True)


def _reached(found: Floats, drawn: Floats | None, limit: float) -> Reached:
    value = float(found[0])
    if drawn is None:
        return Reached(value, math.nan, math.nan, limit)
    ends = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
    low, high = np.quantile(drawn, ends, method="inverted_cdf")
    return Reached(value, float(low), float(high), limit)


def learning(results: StoredResults, key: Key, seeds: tuple[int, ...]) -> Learning | None:
    """How a method learnt at a rate; None without `statistics.gap` or dev scores from step 0 on.

    Only steps count that all of ``seeds`` have.
    """
    task, method, rate = key
    gap = statistics.gap(results.anchor("base", task, TEST), results.ceiling(task, method))
    steps = results.steps
    mine = steps[
        (steps["task"] == task)
        & (steps["measured"] == task)
        & (steps["split"] == "dev")
        & (steps["method"] == method)
        & (steps["learning_rate"] == rate)
        & steps["seed"].isin(seeds)
    ]
    of_seed = {
        int(seed): dict(zip(rows["step"], rows["scores"], strict=True))
        for seed, rows in mine.groupby("seed", sort=True)
    }
    if not of_seed or math.isnan(gap):
        return None
    common = sorted(set.intersection(*(set(scores) for scores in of_seed.values())))
    if len(common) < 2 or common[0] != 0:
        return None
    stacked = np.array([[scores[step] for step in common] for scores in of_seed.values()])
    clusters = in_order(results.suite, task, "dev", stacked.shape[-1])
    return Learning(
        seeds=tuple(of_seed),
        steps=np.array(common, dtype=float),
        gained_SKE=(stacked - stacked[:, :1]) / gap,
        tokens_SK=_tokens_trained(results, key, tuple(of_seed), common),
        clusters=None if clusters is None else tuple(clusters),
    )


def _tokens_trained(
    results: StoredResults, key: Key, seeds: tuple[int, ...], steps: list[int]
) -> Floats:
    """Response tokens trained on until each step, by seed; NaN where a run did not log them."""
    trains = results.trains
    found = np.full((len(seeds), len(steps)), math.nan)
    found[:, 0] = 0.0
    if "student_tokens_trained" not in trains:
        return found
    mine = trains[
        (trains["task"] == key[0])
        & (trains["method"] == key[1])
        & (trains["learning_rate"] == key[2])
    ]
    for place, seed in enumerate(seeds):
        rows = mine[mine["seed"] == seed].set_index("step")["student_tokens_trained"]
        found[place, 1:] = rows.reindex(steps[1:]).to_numpy(dtype=float)
    return found


def columns(
    results: StoredResults, key: Key, seeds: tuple[int, ...]
) -> dict[str, Interval | Reached]:
    """`COLUMNS` of a (task, method, rate): the area under its learning curve, and what it took.

    Nothing where nothing is known of how it learnt.
    """
    found = learning(results, key, seeds)
    if found is None:
        return {}
    row: dict[str, Interval | Reached] = {AREA: found.area}
    for share in SHARES:
        steps, tokens, _ = found.reached(share)
        row |= {f"steps to {share:.0%}": steps, f"tokens to {share:.0%}": tokens}
    return row
