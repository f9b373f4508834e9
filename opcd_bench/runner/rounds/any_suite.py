"""Run a suite, whatever it is made of: every cell, or every round of its chains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opcd_bench.config.suite import Suite
from opcd_bench.progress import Reporter
from opcd_bench.runner import grid, registry, shared_questions

if TYPE_CHECKING:
    from opcd_bench.runner.suite_runner import RunSummary


def run(suite: Suite, *, console: Reporter) -> RunSummary:
    """As `suite_runner.run`, or `rounds.run` for a suite of chains."""
    if suite.chained:
        from opcd_bench.runner.rounds import rounds

        return rounds.run(suite, console=console)
    planned(suite)  # what it names must load before torch does
    from opcd_bench.runner import suite_runner

    return suite_runner.run(suite, console=console)


def planned(suite: Suite) -> tuple[grid.Cell, ...]:
    """The suite's cells, with every plugin that it names loaded.

    Raises ConfigError for a retention task that asks what a task does, as far as data are at hand.
    """
    methods, tasks = registry.plugins_of(suite)
    shared_questions.refuse_at_hand(suite, tasks)
    return grid.cells(suite, methods, tasks)
