"""The frames of the comparison, computed once from the results and then drawn and printed."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from opcd_bench.report.analysis import (
    curves,
    discrimination,
    doses,
    efficiency,
    factorial,
    forgetting,
    frontier,
    groups,
    pairwise,
)
from opcd_bench.report.analysis.load import StoredResults

# Young fields of Comparison, with their columns: one made by hand need not give them.
_EFFICIENCY = pd.DataFrame(columns=efficiency.AREAS)
_REACHES = pd.DataFrame(columns=efficiency.REACHES)
_PAIRS = pd.DataFrame(columns=discrimination.PAIRS)
_DISCRIMINATION = pd.DataFrame(columns=discrimination.SUMMARY)
_GROUPS = pd.DataFrame(columns=groups.GROUPS)
_DOSES = pd.DataFrame(columns=doses.DOSES)
_RESPONSE = pd.DataFrame(columns=doses.RESPONSE)


@dataclass(frozen=True)
class Comparison:
    """What the figures and the page show; each frame is the one of the function of its name.

    ``frontier`` and ``areas``, ``area_differences``: analysis/frontier.py. ``forgetting`` and
    ``by_step``: analysis/forgetting.py. ``curves``: analysis/curves.py. ``effects``:
    analysis/factorial.py. ``matrix`` and ``instructions``: analysis/pairwise.py. ``efficiency`` and
    ``reaches``: analysis/efficiency.py. ``pairs``, ``discrimination``: analysis/discrimination.py.
    ``groups``: analysis/groups.py. ``doses``, ``dose_response``: analysis/doses.py.
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
    efficiency: pd.DataFrame = field(default_factory=_EFFICIENCY.copy)
    reaches: pd.DataFrame = field(default_factory=_REACHES.copy)
    pairs: pd.DataFrame = field(default_factory=_PAIRS.copy)
    discrimination: pd.DataFrame = field(default_factory=_DISCRIMINATION.copy)
    groups: pd.DataFrame = field(default_factory=_GROUPS.copy)
    doses: pd.DataFrame = field(default_factory=_DOSES.copy)
    dose_response: pd.DataFrame = field(default_factory=_RESPONSE.copy)


def compare(results: StoredResults) -> Comparison:
    """All frames of the comparison; StoreError where the cells cannot be compared."""
    pairs = discrimination.pairs(results)
    areas, area_differences = frontier.dominated(results)
    dosed = doses.doses(results)
    return Comparison(
        frontier=frontier.points(results),
        areas=areas,
        area_differences=area_differences,
        forgetting=forgetting.points(results),
        by_step=forgetting.by_step(results),
        curves=curves.curves(results),
        effects=factorial.effects(results),
        matrix=pairwise.accuracies(pairs),
        instructions=pairwise.instructions(results),
        efficiency=efficiency.areas(results),
        reaches=efficiency.reaches(results),
        pairs=pairs,
        discrimination=discrimination.summary(results, pairs),
        groups=groups.groups(results, pairs),
        doses=dosed,
        dose_response=doses.response(results, dosed),
    )
