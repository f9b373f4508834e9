"""Efficiency: the area under each method's learning curve, and the steps and tokens it took."""

from __future__ import annotations

from typing import Any

import pandas as pd

from opcd_bench.report.analysis.learning import SHARES, learning
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.analysis.standing import standings

AREAS = ["task", "method", "learning_rate", "seeds", "control", "area"]
REACHES = [
    "task", "method", "learning_rate", "seeds", "share", "steps", "tokens", "reached",
]  # fmt: skip


def areas(results: StoredResults) -> pd.DataFrame:
    """One row a (task, method) at its headline rate: the ``area`` under its learning curve.

    That is the mean height of dev accuracy above the base over all optimiser steps, as a share of
    the gap (ceiling - base on test): 0 nothing learnt, 1 at the ceiling from the first step on.
    Straight lines between evaluations. Intervals over items and seeds, the gap taken as it is. The
    rate was chosen on this dev split, so an area is a little too large. Methods whose ceiling is
    not shown to be above the base, or without scores along the way, have no row. ``control``: it
    cannot work by construction.
    """
    rows = [
        {
            "task": task,
            "method": method.method,
            "learning_rate": method.learning_rate,
            "seeds": found.seeds,
            "control": method.control,
            "area": found.area,
        }
        for task, methods in standings(results).items()
        for method in methods
        if (found := learning(results, method.key(task), method.seeds)) is not None
    ]
    return pd.DataFrame(rows, columns=AREAS).astype({"control": bool})


def reaches(results: StoredResults) -> pd.DataFrame:
    """One row a (task, method, share of the gap): what it took to close that much of it on dev.

    ``steps`` and ``tokens`` (response tokens trained on): `Reached`, of the learning curve averaged
    over ``seeds``; more than all where it did not get there. ``reached``: how many of the seeds got
    there by themselves. Between evaluations the curve is taken as straight, so what lies within one
    of them is known no better than that.
    """
    rows: list[dict[str, Any]] = []
    for task, methods in standings(results).items():
        for method in methods:
            found = learning(results, method.key(task), method.seeds)
            if found is None:
                continue
            of = {"task": task, "method": method.method, "learning_rate": method.learning_rate}
            for share in SHARES:
                steps, tokens, count = found.reached(share)
                rows.append(
                    {
                        **of,
                        "seeds": found.seeds,
                        "share": share,
                        "steps": steps,
                        "tokens": tokens,
                        "reached": count,
                    }
                )
    return pd.DataFrame(rows, columns=REACHES)
