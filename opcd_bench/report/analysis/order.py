"""The order in which methods and tasks stand, in every table, figure and legend of a report."""

from __future__ import annotations

from opcd_bench.report.analysis.controls import controls
from opcd_bench.report.analysis.load import StoredResults


def methods(results: StoredResults) -> tuple[list[str], set[str]]:
    """The methods that have a run, and those of them that are controls.

    In the order of the suite, then by name; a method is a control by its stored description.
    """
    ran = set(results.cells["method"])
    listed = [name for name in results.suite.get("methods", []) if name in ran]
    names = list(dict.fromkeys([*listed, *sorted(ran)]))
    return names, {name for _, name in controls(results)}


def tasks(results: StoredResults) -> list[str]:
    """The tasks that have a run, in the order of the suite, then by name."""
    ran = set(results.cells["task"])
    listed = [name for name in results.suite.get("tasks", []) if name in ran]
    return list(dict.fromkeys([*listed, *sorted(ran)]))
