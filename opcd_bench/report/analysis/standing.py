"""Every method of a task at the one rate where it stands in the comparison, with its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from opcd_bench.report.analysis import headline
from opcd_bench.report.analysis.comparable import assert_comparable
from opcd_bench.report.analysis.controls import controls
from opcd_bench.report.analysis.headline import TEST
from opcd_bench.report.analysis.load import StoredResults
from opcd_bench.report.analysis.planned import Key


@dataclass(frozen=True)
class Standing:
    """A method at its headline rate; ``scores``: "test" or a retention task -> rows of samples.

    ``control``: it cannot work by construction (`controls.is_control`). ``still``: its chosen step
    is 0 in every training, so that what it is scored by is the base.
    """

    method: str
    learning_rate: float
    seeds: tuple[int, ...]
    scores: Mapping[str, pd.DataFrame]
    control: bool = False
    still: bool = False

    def key(self, task: str) -> Key:
        """Where it stands."""
        return task, self.method, self.learning_rate


def standings(results: StoredResults) -> dict[str, list[Standing]]:
    """Task -> its methods that have a finished cell, both by name.

    StoreError where the cells cannot be compared.
    """
    if not results.cells.empty:
        assert_comparable(results)
    found: dict[str, list[Standing]] = {}
    aside = controls(results)
    for point in headline.points(results).itertuples():
        scores = results.finals.get((point.task, point.method, point.learning_rate))
        if scores is not None:
            control = (point.task, point.method) in aside
            still = not headline.runs_of(results, point)["chosen_step"].any()
            stands = Standing(
                point.method, point.learning_rate, point.seeds, scores, control, still
            )
            found.setdefault(point.task, []).append(stands)
    return found


def measures(methods: Sequence[Standing]) -> list[str]:
    """What these methods were scored on: "test" first, then the retention tasks by name."""
    names = {name for method in methods for name in method.scores}
    return sorted(names, key=lambda name: (name != TEST, name))
