"""Which examples of a suite stand or fall together, as its suite.json says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from opcd_bench.report.analysis.pairing import CLUSTER
from opcd_bench.store.suite_dir import CLUSTERS


def clustered(
    frame: pd.DataFrame, suite: Mapping[str, Any], measured: str = "measured"
) -> pd.DataFrame:
    """``frame`` with the column `CLUSTER`, where something measured in it has clusters.

    ``measured``: the column that names what was measured; ``example_id`` is another.
    """
    known = {name: of for name, of in of_examples(suite).items() if name in set(frame[measured])}
    if not known:
        return frame
    found = frame["example_id"].copy()
    for name, of in known.items():
        mine = frame[measured] == name
        found[mine] = frame.loc[mine, "example_id"].map(of).fillna(frame["example_id"])
    return frame.assign(**{CLUSTER: found})


def of_examples(suite: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """What was measured -> example id -> cluster."""
    return {
        measured: dict(_pair(line) for lines in splits.values() for line in lines)
        for measured, splits in suite.get(CLUSTERS, {}).items()
    }


def in_order(suite: Mapping[str, Any], measured: str, split: str, count: int) -> list[str] | None:
    """The clusters of the first ``count`` items of a split, in the order in which it is scored."""
    lines = suite.get(CLUSTERS, {}).get(measured, {}).get(split, [])
    return [_pair(line)[1] for line in lines[:count]] if len(lines) >= count else None


def _pair(line: str) -> tuple[str, str]:
    """Example id and cluster, as `runner.example_record` writes them."""
    example, _, cluster = line.partition(" ")
    return example, cluster
