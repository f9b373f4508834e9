"""The further test sets of tasks: what base, in-context teacher and methods score on each."""

from __future__ import annotations

from typing import Any

import pandas as pd

from opcd_bench.report.analysis import floors, headline, statistics
from opcd_bench.report.analysis.load import StoredResults

COLUMNS = ["task", "probe", "method", "learning_rate", "seeds", "score", "change", "floor"]
BASE, CEILING = "base", "ceiling"
"""In place of a method: the student before training, and the told teacher."""


def probes(results: StoredResults) -> pd.DataFrame:
    """One row a (task, further test set, method at its headline rate), base and ceiling first.

    ``score`` and ``change`` (from the base, paired by example) are intervals; a base has no change,
    and the ceiling is there only where the set itself has nothing read with its prompts. ``floor``:
    the best policy that does not use the context, NaN where the run stored none. Methods come in
    the order of the suite. Empty where no task has further test sets.
    """
    order = {name: number for number, name in enumerate(results.suite.get("methods", []))}
    stands = headline.points(results)
    rows: list[dict[str, Any]] = []
    for task in dict.fromkeys(results.probes["task"]):
        mine = stands[stands["task"] == task].to_dict("records")
        mine.sort(key=lambda point: (order.get(point["method"], len(order)), point["method"]))
        measured = results.probes[results.probes["task"] == task]
        for name in dict.fromkeys(measured["measured"]):
            fixed = results.probe_anchors[results.probe_anchors["measured"] == name]
            base = fixed[fixed["reading"] == BASE]
            floor = floors.best(results, str(name))[1]
            key = {"task": task, "probe": str(name).removeprefix(f"{task}."), "floor": floor}
            for reading in (BASE, CEILING):
                found = fixed[fixed["reading"] == reading]
                if len(found):
                    rows.append({**key, "method": reading, "score": statistics.mean(found)})
            for point in mine:
                of = measured[
                    (measured["measured"] == name)
                    & (measured["method"] == point["method"])
                    & (measured["learning_rate"] == point["learning_rate"])
                ]
                scored = {"score": statistics.mean(of), "change": statistics.difference(of, base)}
                more = {name: point[name] for name in ("method", "learning_rate", "seeds")}
                rows.append({**key, **more, **scored})
    return pd.DataFrame(rows, columns=COLUMNS)
