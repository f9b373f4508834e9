"""What suite.json says of the examples that a suite scores: floors, and clusters of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from opcd_bench.config.suite import Suite
from opcd_bench.envs.task import PROBE, Example, Task, floors_and_best
from opcd_bench.evaluation.task_scores import first_examples, further_sets, probe_name
from opcd_bench.runner import shared_questions
from opcd_bench.store.jsonl import Row
from opcd_bench.store.suite_dir import CLUSTERS


def record(tasks: Mapping[str, Task], suite: Suite) -> Row:
    """``floors`` of every task and further test set on what is scored of it, and `CLUSTERS`.

    `CLUSTERS`: measured set -> split -> "<example id> <cluster>" of each example scored, in order;
    of sets that have any. An example without a cluster is one of its own.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for measured, split, examples in _scored(tasks, suite):
        if any(example.cluster is not None for example in examples):
            found.setdefault(measured, {})[split] = [
                f"{one.id} {one.id if one.cluster is None else one.cluster}" for one in examples
            ]
    floors = {name: _floors(task, suite.for_task(name)) for name, task in tasks.items()}
    for name, task in tasks.items():
        for probe in further_sets(task, suite.for_task(name)):
            floors[probe_name(task, probe)] = {one.name: one.value for one in probe.floors_here}
    return {"floors": floors, **({CLUSTERS: found} if found else {})}


def _floors(task: Task, suite: Suite) -> dict[str, float]:
    """What policies without the context score on test, and the most that any policy can."""
    floors, best = floors_and_best(task, first_examples(task, "test", suite.test_items))
    return {**floors, "best possible": best}


def _scored(
    tasks: Mapping[str, Task], suite: Suite
) -> Iterator[tuple[str, str, Sequence[Example]]]:
    """(measured set, split, its examples) of all that a suite scores and this project grades."""
    for name, task in tasks.items():
        own = suite.for_task(name)
        yield name, "dev", first_examples(task, "dev", own.dev_items)
        yield name, "test", first_examples(task, "test", own.test_items)
        for probe in further_sets(task, own):
            yield probe_name(task, probe), PROBE, probe.examples
    for name, task in shared_questions.own_tasks(suite).items():
        yield name, "retention", task.examples("test")[: suite.retention_items]
