"""The frames of the comparison, computed once from the results and then drawn and printed."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from opcd_bench.report.analysis import curves, factorial, forgetting, frontier, pairwise
from opcd_bench.report.analysis.load import StoredResults


@dataclass(frozen=True)
class Comparison:
    """What the figures and the page show; each frame is the one of the function of its name.

    ``frontier`` and ``areas``, ``area_differences``: report/frontier.py. ``forgetting`` and
    ``by_step``: report/forgetting.py. ``curves``: report/curves.py. ``effects``:
    report/factorial.py. ``matrix`` and ``instructions``: report/pairwise.py.
    """

    frontier: pd.DataFrame
    areas: pd.DataFrame
    area_differences: pd.DataFrame
    forgetting: pd.DataFrame
    by_step: pd.DataFrame
    curves: pd.DataFrame
    effects: pd.DataFrame
    matrix: pd.DataFrame
    instructions: pd.DataFrame


def compare(results: StoredResults) -> Comparison:
    """All frames of the comparison; StoreError where the cells cannot be compared."""
    areas, area_differences = frontier.dominated(results)
    return Comparison(
        frontier=frontier.points(results),
        areas=areas,
        area_differences=area_differences,
        forgetting=forgetting.points(results),
        by_step=forgetting.by_step(results),
        curves=curves.curves(results),
        effects=factorial.effects(results),
        matrix=pairwise.matrix(results),
        instructions=pairwise.instructions(results),
    )
