"""Methods and tasks of a suite, loaded and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from opcd_bench.config import measures
from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Method
from opcd_bench.envs.task import Task, assert_disjoint
from opcd_bench.evaluation import held_out_texts, retention
from opcd_bench.evaluation.task_scores import contexts_of
from opcd_bench.runner import registry
from opcd_bench.runner.plugins import asked


@dataclass(frozen=True)
class Plan:
    """Methods and tasks of a suite, loaded and checked."""

    suite: Suite
    methods: Mapping[str, Method]
    tasks: Mapping[str, Task]

    def of(self, names: Iterable[str]) -> list[Method]:
        """Some of the methods, by name."""
        return [self.methods[name] for name in names]


def plan(suite: Suite) -> Plan:
    """The suite's methods and tasks, checked as far as can be without loading a model.

    Raises UserError subclasses for unknown names (of retention tasks too), tasks whose splits
    overlap, and empty contexts.
    """
    planned = plugins(suite)
    for task in planned.tasks.values():
        asked(task, partial(contexts_of, task))
    return planned


def plugins(suite: Suite) -> Plan:
    """As `plan`, but for contexts, which need not be there yet."""
    methods, tasks = registry.plugins_of(suite)
    for task in tasks.values():
        asked(task, partial(assert_disjoint, task))
    retention.check_names(registry.foreign_retention(suite))
    for name in filter(measures.HELD_OUT.__contains__, suite.retention):
        held_out_texts.texts(name, suite.data_dir)
    return Plan(suite, methods, tasks)
