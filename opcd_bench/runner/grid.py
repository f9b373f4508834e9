"""The cells of a suite: pure values, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from opcd_bench.config import words
from opcd_bench.config.headline_rule import DevScore, headline_rate
from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Method, Teacher
from opcd_bench.envs.task import Task, describe_task
from opcd_bench.hashing import digest
from opcd_bench.runner import compatibility, registry


@dataclass(frozen=True)
class Cell:
    """One method on one task at one learning rate and one seed.

    ``config`` is all that its numbers depend on, as JSON values; ``hash10`` is its digest.
    """

    task: str
    method: str
    learning_rate: float
    seed: int
    config: Mapping[str, Any]

    @property
    def hash10(self) -> str:
        """Ten hex digits of the SHA-256 of ``config``."""
        return digest(self.config)

    @property
    def name(self) -> str:
        """The run folder's name, ``<task>--<method>--lr<rate>--s<seed>--<hash10>``."""
        return folder_name(self.task, self.method, self.learning_rate, self.seed, self.config)


def folder_name(
    task: str, method: str, learning_rate: float, seed: int, config: Mapping[str, Any]
) -> str:
    """What a cell, or a chain of them, is called on the disk; ``config`` by its digest.

    A method's parameters are written so that they can be: ``opcd[k=4]`` as ``opcd-k4``.
    """
    slug = words.parse(method).slug
    return f"{task}--{slug}--lr{rate_text(learning_rate)}--s{seed}--{digest(config)}"


def rate_text(rate: float) -> str:
    """A learning rate as ``1e-04`` or ``2.5e-05``: every digit that it has, and no more."""
    mantissa, exponent = f"{Decimal(repr(rate)).normalize():e}".split("e")
    return f"{mantissa}e{int(exponent):+03d}"


def lengths(suite: Suite) -> dict[int, list[str]]:
    """``max_steps`` of the cells -> the tasks that train for so many, in the suite's order."""
    tasks: dict[int, list[str]] = {}
    for task in suite.tasks:
        tasks.setdefault(suite.for_task(task).max_steps, []).append(task)
    return tasks


def steps_text(suite: Suite) -> str:
    """How long every cell trains: ``20 steps``, or ``20 (a, b) or 6 (c) steps``."""
    tasks = lengths(suite)
    if len(tasks) == 1:
        return f"{next(iter(tasks))} steps"
    return " or ".join(f"{steps} ({', '.join(names)})" for steps, names in tasks.items()) + " steps"


def rates_and_seeds(suite: Suite) -> tuple[tuple[float, int], ...]:
    """Every (learning rate, seed) known before anything has run: the headline rate first.

    The headline rate has all the seeds, the others ``sweep_seeds``; with a headline rate of
    ``dev`` all have ``sweep_seeds``, and `headline_cells` gives the rest.
    """
    headline = suite.headline_learning_rate
    rates = sorted(suite.learning_rate, key=lambda rate: rate != headline)
    pairs = []
    for rate in rates:
        swept = headline is not None and rate != headline
        seeds = suite.sweep_seeds if swept and suite.sweep_seeds is not None else suite.seeds
        pairs += [(rate, suite.first_seed + number) for number in range(seeds)]
    return tuple(pairs)


def cells(
    suite: Suite, methods: Mapping[str, Method], tasks: Mapping[str, Task]
) -> tuple[Cell, ...]:
    """The suite's cells: by task, rate (headline first), seed, then method.

    Methods come innermost, so that an interrupted grid holds complete comparisons. Raises
    ConfigError or InvalidLoss for a method that the suite's settings cannot serve.
    """
    for name in suite.methods:
        compatibility.refuse_unservable(suite, methods[name])
    return tuple(
        cell(suite, methods[method], tasks[task], rate, seed)
        for task in suite.tasks
        for rate, seed in rates_and_seeds(suite)
        for method in suite.methods
    )


def headline_rates(
    suite: Suite, dev: Mapping[tuple[str, str, float], Sequence[DevScore]]
) -> dict[tuple[str, str], float]:
    """The headline rate of each (task, method), by the suite's rule (`headline_rule`).

    ``dev``: (task, method, rate) -> the scores of the sweep's finished runs. A pair without any
    score is left out.
    """
    found: dict[tuple[str, str], float] = {}
    for task in suite.tasks:
        for method in suite.methods:
            swept = {rate: runs for (*pair, rate), runs in dev.items() if pair == [task, method]}
            if any(swept.values()):
                found[task, method] = headline_rate(suite.headline_rule, swept)
    return found


def seeds_left(suite: Suite) -> range:
    """The seeds that a sweep leaves out; none where every rate runs with all of them."""
    first = suite.sweep_seeds or suite.seeds
    return range(suite.first_seed + first, suite.first_seed + suite.seeds)


def headline_cells(
    suite: Suite,
    methods: Mapping[str, Method],
    tasks: Mapping[str, Task],
    rates: Mapping[tuple[str, str], float],
) -> tuple[Cell, ...]:
    """The seeds that the sweep left out, each (task, method) at its headline rate."""
    return tuple(
        cell(suite, methods[method], tasks[task], rates[task, method], seed)
        for task in suite.tasks
        for seed in seeds_left(suite)
        for method in suite.methods
        if (task, method) in rates
    )


def cell(suite: Suite, method: Method, task: Task, rate: float, seed: int) -> Cell:
    """One cell, with all that its numbers depend on."""
    return Cell(
        task=task.name,
        method=method.name,
        learning_rate=rate,
        seed=seed,
        config={
            "suite": suite.for_task(task.name).shared_identity(),
            "task": describe_task(task),
            "method": dict(method.describe()),
            "learning_rate": rate,
            "seed": seed,
            **{k: v for part in method.parts for k, v in adaptation(suite, part.teacher).items()},
        },
    )


def adaptation(suite: Suite, teacher: Teacher) -> dict[str, Any]:
    """What adapts a teacher, as a part of what numbers depend on; nothing of any other teacher."""
    if teacher.by is None:
        return {}
    by = registry.method(teacher.by, suite.method_files)
    how = {
        "method": dict(by.describe()),
        "learning_rate": adapting_rate(suite),
        "seed": "the run's",
    }
    return {"adapted": how}


def adapting_rate(suite: Suite) -> float:
    """The learning rate of adapted teachers: their own, the headline one, or else the first."""
    if suite.adapted_learning_rate is not None:
        return suite.adapted_learning_rate
    headline = suite.headline_learning_rate
    return headline if isinstance(headline, float) else suite.learning_rate[0]
