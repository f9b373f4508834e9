"""Refuses to put numbers in one table that cannot be compared."""

from __future__ import annotations

import pandas as pd

from opcd_bench.errors import StoreError
from opcd_bench.hashing import canonical
from opcd_bench.report.analysis.load import ADAPTED, CELL, StoredResults
from opcd_bench.store.suite_dir import SHARED

WAY_OUT = "Move the runs of one of them to a folder of their own"


def assert_comparable(results: StoredResults) -> None:
    """Raise StoreError where one table would mix what cannot be compared.

    That is, among the finished cells of one task: different settings, two runs of one cell (its
    method was edited in between), or scores measured under different protocols; among these the
    base and the ceilings, and retention, whose base all tasks share.
    """
    done = results.cells[results.cells["state"] == "done"]
    for task, cells in done.groupby("task"):
        for name in sorted({name for settings in cells["settings"] for name in settings}):
            having = [
                settings
                for settings in cells["settings"]
                if name in settings or not name.startswith(ADAPTED)
            ]
            values = sorted({canonical(settings.get(name)) for settings in having})
            if len(values) > 1:
                raise StoreError(
                    f"{results.root}: the cells of {task} were run with different settings "
                    f"({name}: {' and '.join(values)}), which one table must not mix. {WAY_OUT}"
                )
    for _, runs in done.groupby(CELL)["run"]:
        if len(runs) > 1:
            raise StoreError(
                f"{results.root}: {' and '.join(runs)} are two runs of one cell, because its "
                f"method was changed in between. {WAY_OUT}"
            )
    if not done.empty:
        _assert_one_protocol(results)


def _assert_one_protocol(results: StoredResults) -> None:
    done = results.cells.loc[results.cells["state"] == "done", "run"]
    evals = results.evals[results.evals["run"].isin(done)]
    for (task, measured, split), rows in evals.groupby(["task", "measured", "split"]):
        hashes = rows.groupby("protocol_hash")["run"].first()
        if len(hashes) > 1:
            runs = "; ".join(f"{key}: {run}" for key, run in hashes.items())
            raise StoreError(
                f"{results.root}: in the cells of {task}, {measured} on {split} was measured under "
                f"{len(hashes)} protocols, which one table must not mix ({runs}). {WAY_OUT}"
            )
    _assert_anchored(results, evals)


def _assert_anchored(results: StoredResults, evals: pd.DataFrame) -> None:
    """The same between what runs scored and the stored scores that they are compared with.

    A larger teacher has a chat template of its own, and so a protocol.
    """
    larger = results.protocols["reading"].str.startswith("ceiling-larger")
    anchors = results.protocols[~larger.astype(bool)]
    every = [
        evals[["measured", "split", "protocol_hash"]].assign(where=evals["run"]),
        anchors[["measured", "split", "protocol_hash"]].assign(
            where=anchors["reading"] + f" in {SHARED}/" + anchors["shared"]
        ),
    ]
    for (measured, split), rows in pd.concat(every).groupby(["measured", "split"]):
        hashes = rows.groupby("protocol_hash")["where"].first()
        if len(hashes) > 1:
            scored = "; ".join(f"{key}: {where}" for key, where in hashes.items())
            raise StoreError(
                f"{results.root}: {measured} on {split} was measured under {len(hashes)} protocols "
                f"before and after training ({scored}), so neither can be subtracted from the "
                "other. Run the suite under another name (--name)"
            )
