"""Run a suite, whatever it is made of: every cell, or every round of its chains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Method
from opcd_bench.envs.task import Task
from opcd_bench.errors import ConfigError
from opcd_bench.progress import Reporter
from opcd_bench.runner import grid, plugins, preflight, registry, shared_questions
from opcd_bench.runner.rounds.chain import untold

if TYPE_CHECKING:
    from opcd_bench.runner.suite_runner import RunSummary


def run(suite: Suite, *, console: Reporter) -> RunSummary:
    """As `suite_runner.run`, or `rounds.run` for a suite of chains."""
    # What it names must load, and be of use, before torch is imported.
    checked(suite, planned=False)
    if suite.processes > 1 and suite.cluster == "local":
        refuse_alone(suite)
    if suite.chained:
        from opcd_bench.runner.rounds import rounds

        return rounds.run(suite, console=console)
    from opcd_bench.runner import suite_runner

    return suite_runner.run(suite, console=console)


def refuse_alone(suite: Suite) -> None:
    """Raise ConfigError where a suite's several processes have not been started."""
    from opcd_bench.distillation.parallel import peers

    here = peers.current()
    if here is None or here.size != suite.processes:
        raise ConfigError(
            f"processes = {suite.processes}, and this is {'one' if here is None else here.size} of "
            "them: the command line starts them, a Python program does not. Type opcd-bench run "
            f"--processes {suite.processes} …, or set processes = 1"
        )


def planned(suite: Suite) -> tuple[grid.Cell, ...]:
    """The suite's cells, with every plugin that it names loaded. Raises as `checked` does."""
    found = checked(suite)
    return grid.cells(suite, found.methods, found.tasks)


class Checked(NamedTuple):
    """The methods and tasks of a suite, by name."""

    methods: Mapping[str, Method]
    tasks: Mapping[str, Task]


def checked(suite: Suite, *, planned: bool = True) -> Checked:
    """The suite's methods and tasks; a UserError for all that can be refused without a model."""
    found = Checked(*registry.plugins_of(untold(suite) if suite.chained else suite))
    for task in found.tasks.values():
        plugins.answers(task, local=planned)
    preflight.refuse_early(suite, found.methods, found.tasks, planned=planned)
    shared_questions.refuse_at_hand(suite, found.tasks)
    return found
