"""Two finished runs against each other, example by example."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from opcd_bench.config.measures import NATS
from opcd_bench.envs.task import PROBE
from opcd_bench.errors import StoreError
from opcd_bench.report.analysis import significance, statistics
from opcd_bench.report.analysis.clusters import clustered
from opcd_bench.report.analysis.load import SAMPLE, scored, typed
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import suite_of

COLUMNS = ["measured", "split", "first", "second", "difference", "p", "n"]
TEST, RETENTION = "test", "retention"
SPLITS = (TEST, RETENTION, NATS, PROBE)
"""What runs are finally scored on, in the order in which it is shown."""


class Compared(NamedTuple):
    """``table``: one row a thing that both runs were finally scored on.

    ``missing``: what each of them was scored on, and the other not.
    """

    table: pd.DataFrame
    missing: tuple[list[str], list[str]]


def compare(first: Path, second: Path) -> Compared:
    """Two runs on all that they were finally scored on: test, retention, further test sets.

    ``table``: columns `COLUMNS`. ``first``, ``second`` and ``difference`` (first - second, paired
    by example) are Intervals of shares, of the split `NATS` in nats; ``p`` is of a paired two-sided
    permutation test; ``n`` counts the examples that both scored. StoreError for a run that is not
    finished, for scores under different protocols, and where the two have nothing in common.
    """
    runs = [RunReader(first), RunReader(second)]
    for run in runs:
        if not run.sealed:
            raise StoreError(
                f"{run.path} is not finished ({run.state}), so it has no final scores to "
                "compare; type the command that ran it again to finish it"
            )
    _one_protocol(runs)
    scores, others = _final_scores(runs[0]), _final_scores(runs[1])
    rows = []
    for measured, split in _in_order(scores.keys() & others.keys()):
        a, b = scores[measured, split], others[measured, split]
        shares = split != NATS
        difference = statistics.difference(a, b, shares=shares)
        rows.append(
            {
                "measured": measured,
                "split": split,
                "first": statistics.mean(a, shares=shares),
                "second": statistics.mean(b, shares=shares),
                "difference": difference,
                "p": significance.permutation_p(a, b),
                "n": difference.examples,
            }
        )
    if not rows:
        listing = " and ".join(
            f"{run.path.name} on {', '.join(name for name, _ in found)}"
            for run, found in zip(runs, (scores, others), strict=True)
        )
        raise StoreError(f"the two runs have no score in common ({listing})")
    alone = (scores.keys() - others.keys(), others.keys() - scores.keys())
    mine, theirs = ([called(*key) for key in _in_order(keys)] for keys in alone)
    return Compared(pd.DataFrame(rows, columns=COLUMNS), (mine, theirs))


def called(measured: str, split: str) -> str:
    """What a row is called, with its unit where that is no share."""
    more = {TEST: "", RETENTION: " (retention)", NATS: " (nats)", PROBE: " (further test set)"}
    return f"{measured}{more[split]}"


def _in_order(keys: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted(keys, key=lambda key: (SPLITS.index(key[1]), key[0]))


def _one_protocol(runs: list[RunReader]) -> None:
    first, second = (
        {(row["task"], row["split"]): row["protocol_hash"] for row in run.read("evals")
         if row.get("final")}
        for run in runs
    )  # fmt: skip
    differ = [
        f"{measured} on {split}: {first[measured, split]} and {second[measured, split]}"
        for measured, split in sorted(first.keys() & second.keys())
        if first[measured, split] != second[measured, split]
    ]
    if differ:
        raise StoreError(
            f"{runs[0].path} and {runs[1].path} were measured under different protocols "
            f"({'; '.join(differ)}), so their scores cannot be compared. Run one of them again "
            "with the decoding, items and task version of the other"
        )


def _final_scores(run: RunReader) -> dict[tuple[str, str], pd.DataFrame]:
    """(measured, split) -> a run's final samples: one row an (example, sample), with ``score``."""
    found: dict[tuple[str, str], pd.DataFrame] = {}
    of = suite_of(run.path)
    suite = {} if of is None else of.read()
    for name in run.sample_names():
        split = name.partition("-")[0]
        if split not in SPLITS or (split == TEST) != (name == TEST):
            continue
        rows = run.read(f"samples/{name}")
        every = [one for row in rows for one in scored(row, split == RETENTION)]
        frame = pd.DataFrame(every, columns=SAMPLE)
        for measured, mine in frame.groupby("measured", sort=False):
            columns = typed(mine[["measured", "example_id", "score"]].reset_index(drop=True))
            found[str(measured), split] = clustered(columns, suite)
    return found
