"""The order in which methods and tasks stand, in every table, figure and legend of a report."""

from __future__ import annotations

from opcd_bench.report.analysis import headline
from opcd_bench.report.analysis.load import StoredResults


def methods(results: StoredResults) -> tuple[list[str], set[str]]:
    """The methods that have a run, and those of them that are controls.

    In the order of the suite, then by name; a method is a control by its stored description.
    """
    described = dict(zip(results.cells["method"], results.cells["description"], strict=True))
    listed = [name for name in results.suite.get("methods", []) if name in described]
    names = list(dict.fromkeys([*listed, *sorted(described)]))
    return names, {name for name in names if headline.is_control(described[name])}


def tasks(results: StoredResults) -> list[str]:
    """The tasks that have a run, in the order of the suite, then by name."""
    ran = set(results.cells["task"])
    listed = [name for name in results.suite.get("tasks", []) if name in ran]
    return list(dict.fromkeys([*listed, *sorted(ran)]))
