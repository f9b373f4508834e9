"""Two finished runs against each other, example by example."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from opcd_bench.errors import StoreError
from opcd_bench.report.analysis import significance, statistics
from opcd_bench.report.analysis.clusters import clustered
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import suite_of

COLUMNS = ["measured", "split", "first", "second", "difference", "p", "n"]
TEST, RETENTION = "test", "retention"


def compare(first: Path, second: Path) -> pd.DataFrame:
    """One row a thing that both runs were finally scored on: columns `COLUMNS`.

    ``first``, ``second`` and ``difference`` (first - second, paired by example) are Intervals of
    shares; ``p`` is of a paired two-sided permutation test; ``n`` counts the examples that both
    scored. StoreError for a run that is not finished, for scores under different protocols, and
    where the two have nothing in common.
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
    for measured, split in sorted(scores.keys() & others.keys(), key=lambda key: key[1] != TEST):
        a, b = scores[measured, split], others[measured, split]
        difference = statistics.difference(a, b)
        rows.append(
            {
                "measured": measured,
                "split": split,
                "first": statistics.mean(a),
                "second": statistics.mean(b),
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
    return pd.DataFrame(rows, columns=COLUMNS)


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
        split = RETENTION if name.startswith(f"{RETENTION}-") else name
        if split not in (TEST, RETENTION):
            continue
        rows = run.read(f"samples/{name}")
        for measured in sorted({row["task"] for row in rows}):
            mine = [
                {"measured": measured, "example_id": row["example_id"], "score": row["score"]}
                for row in rows
                if row["task"] == measured
            ]
            found[measured, split] = clustered(pd.DataFrame(mine), suite)
    return found
