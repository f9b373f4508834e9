"""Scores of several frames lined up example by example, or cluster by cluster, to be paired."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]

CLUSTER = "cluster"
"""A column of samples: what an example's answer rests on beside its wording, such as one fact.

Where it is there, clusters are drawn anew and not examples, which stand or fall together (clustered
standard errors: Miller 2024, arXiv 2411.00640).
"""


def by_example(samples: pd.DataFrame) -> pd.Series:
    """Mean score of each example over its seeds and samples; unscored samples are left out."""
    scored = samples[samples["score"].notna()]
    return scored.groupby("example_id", sort=True)["score"].mean().astype(float)


def paired(*frames: pd.DataFrame, totals: bool = False) -> tuple[Floats, ...]:
    """Each frame's mean score of every example, or cluster, that all frames have, in one order.

    Frames with a ``seed`` column are paired by (example, seed) first: only seeds that all of these
    frames scored an example with count for it. Frames without one (base, ceiling) pair with every
    seed. ``totals``: of clusters, as tests need them that flip signs or count what differs.
    """
    return tuple(over_seeds(scores_SE) for scores_SE in by_seed(*frames, totals=totals))


def by_seed(*frames: pd.DataFrame, totals: bool = False) -> tuple[Floats, ...]:
    """As `paired`, before the mean over seeds: arrays of one shape (seeds, examples).

    NaN where a frame with seeds lacks an (example, seed). A frame without seeds has the same scores
    for every seed; where no frame has any, there is one row. Where frames have a column `CLUSTER`,
    an entry is a cluster's (`_clustered`); what a seed lacks is taken to be the others' mean.
    """
    scored = [_scored(frame) for frame in frames]
    codes, ids = pd.factorize(pd.concat([frame["example_id"] for frame in scored]), sort=True)
    ends = np.cumsum([len(frame) for frame in scored])
    places = np.split(codes, ends[:-1])
    seeds = [set(frame["seed"].unique()) for frame in scored if "seed" in frame]
    common = sorted(set.intersection(*seeds)) if seeds else []
    means_SE = [
        _means(frame, of, common, len(ids)) for frame, of in zip(scored, places, strict=True)
    ]
    seeded = [means for means, frame in zip(means_SE, scored, strict=True) if "seed" in frame]
    lacking_SE = np.isnan(seeded).any(axis=0) if seeded else np.zeros((1, len(ids)), bool)
    every_SE = [
        np.where(lacking_SE, math.nan, means)
        if "seed" in frame
        else np.broadcast_to(means, lacking_SE.shape)
        for means, frame in zip(means_SE, scored, strict=True)
    ]
    everywhere = np.all([~np.isnan(means).all(axis=0) for means in every_SE], axis=0)
    found = [means[:, everywhere] for means in every_SE]
    clusters = _clusters(scored, places, len(ids))
    if clusters is not None:
        filled = [np.where(np.isnan(means), over_seeds(means), means) for means in found]
        found = [_clustered(means, clusters[everywhere], totals) for means in filled]
    return tuple(found)


def _clusters(
    scored: Sequence[pd.DataFrame], places: Sequence[npt.NDArray[np.intp]], count: int
) -> npt.NDArray[np.intp] | None:
    """The number of each example's cluster; None where each is its own.

    That of the first frame that knows one: of suites stored before and after, it need not be all.
    """
    if not any(CLUSTER in frame for frame in scored):
        return None
    named: npt.NDArray[Any] = np.array([f"\0{number}" for number in range(count)], dtype=object)
    for frame, of in reversed([*zip(scored, places, strict=True)]):
        if CLUSTER in frame:
            known = frame[CLUSTER].notna().to_numpy()
            named[of[known]] = frame[CLUSTER].to_numpy(dtype=object)[known]
    clusters = pd.factorize(named)[0]
    return clusters if len(np.unique(clusters)) < count else None


def in_clusters(scores: Floats, clusters: Sequence[str] | None) -> Floats:
    """Scores of shape (…, examples) as (…, clusters) of the same means; as they are without any.

    What is NaN is taken to be the mean of the others in its row.
    """
    if clusters is None or len(set(clusters)) == len(clusters):
        return scores
    known = ~np.isnan(scores)
    middle = ratio(np.where(known, scores, 0.0).sum(axis=-1), known.sum(axis=-1))
    filled = np.where(known, scores, middle[..., None])
    return _clustered(filled, pd.factorize(np.asarray(clusters, dtype=object))[0], totals=False)


def _clustered(means_SE: Floats, clusters: npt.NDArray[np.intp], totals: bool) -> Floats:
    """An entry for each of C clusters in place of N examples, of the same mean over all.

    m + C / N * the cluster's sum of (x - m), m the mean over all. Where all are of one size that is
    the cluster's mean; else it varies as the mean over all examples does, a ratio of two totals
    (Cochran 1977, section 6.8). ``totals``: C / N * the cluster's sum of x, which is 0 where
    nothing in it differs.
    """
    names, places = np.unique(clusters, return_inverse=True)
    middle = 0.0 if totals or not means_SE.size else float(means_SE.mean())
    member = np.zeros((len(places), len(names)))
    member[np.arange(len(places)), places] = len(names) / max(len(places), 1)
    found: Floats = middle + (means_SE - middle) @ member
    return found


def _scored(samples: pd.DataFrame) -> pd.DataFrame:
    """The columns that pairing needs, of the rows with a score."""
    columns = ("example_id", CLUSTER, "seed", "score")
    needed = samples[[name for name in columns if name in samples]]
    known = needed["score"].notna()
    return needed if known.all() else needed[known]


def _means(
    scored: pd.DataFrame, places: npt.NDArray[np.intp], seeds: Sequence[int], count: int
) -> Floats:
    """Mean scores of the examples numbered ``places``, of shape (seeds, count); NaN for none.

    Of shape (1, count) for a frame without seeds.
    """
    scores = scored["score"].to_numpy(dtype=float)
    rows = 1
    if "seed" in scored:
        rows = max(len(seeds), 1)
        at = pd.Index(seeds).get_indexer(pd.Index(scored["seed"]))
        scores, places = scores[at >= 0], (at * count + places)[at >= 0]
    number = np.bincount(places, minlength=rows * count).reshape(rows, count)
    total = np.bincount(places, weights=scores, minlength=rows * count).reshape(rows, count)
    return ratio(total, number)


def over_seeds(means_SE: Floats) -> Floats:
    """The mean of each example over the seeds that scored it."""
    known = ~np.isnan(means_SE)
    return ratio(np.where(known, means_SE, 0.0).sum(axis=0), known.sum(axis=0))


def ratio(over: npt.NDArray[Any], under: npt.NDArray[Any]) -> Floats:
    """Over / under of one shape; NaN where under is not above 0."""
    found: Floats = np.divide(over, under, out=np.full(np.shape(over), math.nan), where=under > 0)
    return found
