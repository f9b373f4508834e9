"""Scores of several frames lined up example by example, as everything paired needs them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]


def by_example(samples: pd.DataFrame) -> pd.Series:
    """Mean score of each example over its seeds and samples; unscored samples are left out."""
    scored = samples[samples["score"].notna()]
    return scored.groupby("example_id", sort=True)["score"].mean().astype(float)


def paired(*frames: pd.DataFrame) -> tuple[Floats, ...]:
    """Each frame's mean score of every example that all frames have, in one order.

    Frames with a ``seed`` column are paired by (example, seed) first: only seeds that all of these
    frames scored an example with count for it. Frames without one (base, ceiling) pair with every
    seed.
    """
    return tuple(over_seeds(scores_SE) for scores_SE in by_seed(*frames))


def by_seed(*frames: pd.DataFrame) -> tuple[Floats, ...]:
    """As `paired`, before the mean over seeds: arrays of one shape (seeds, examples).

    NaN where a frame with seeds lacks an (example, seed). A frame without seeds has the same scores
    for every seed; where no frame has any, there is one row.
    """
    scored = [_scored(frame) for frame in frames]
    codes, ids = pd.factorize(pd.concat([frame["example_id"] for frame in scored]), sort=True)
    ends = np.cumsum([len(frame) for frame in scored])
    seeds = [set(frame["seed"].unique()) for frame in scored if "seed" in frame]
    common = sorted(set.intersection(*seeds)) if seeds else []
    means_SE = [
        _means(frame, places, common, len(ids))
        for frame, places in zip(scored, np.split(codes, ends[:-1]), strict=True)
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
    return tuple(means[:, everywhere] for means in every_SE)


def _scored(samples: pd.DataFrame) -> pd.DataFrame:
    """The columns that pairing needs, of the rows with a score."""
    needed = samples[[name for name in ("example_id", "seed", "score") if name in samples]]
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
