"""The cells of a suite: pure values, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from opcd_bench.config import Suite, digest
from opcd_bench.divergence import Divergence
from opcd_bench.errors import ConfigError, InvalidLoss
from opcd_bench.method import Method
from opcd_bench.task import Task


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
        rate = rate_text(self.learning_rate)
        return f"{self.task}--{self.method}--lr{rate}--s{self.seed}--{self.hash10}"


def rate_text(rate: float) -> str:
    """A learning rate as ``1e-04`` or ``2.5e-05``: every digit that it has, and no more."""
    mantissa, exponent = f"{Decimal(repr(rate)).normalize():e}".split("e")
    return f"{mantissa}e{int(exponent):+03d}"


def describe_task(task: Task) -> dict[str, Any]:
    """All of a task that numbers depend on, as JSON values."""
    return {
        "name": task.name,
        "version": task.version,
        "options": dict(task.options()),
        "context_hash": task.context().hash,
    }


def rates_and_seeds(suite: Suite) -> tuple[tuple[float, int], ...]:
    """Every (learning rate, seed) of a suite: the headline rate first, with all of its seeds."""
    headline = suite.headline_learning_rate
    rates = sorted(suite.learning_rate, key=lambda rate: rate != headline)
    pairs = []
    for rate in rates:
        swept = headline is not None and rate != headline
        seeds = suite.sweep_seeds if swept and suite.sweep_seeds is not None else suite.seeds
        pairs += [(rate, seed) for seed in range(seeds)]
    return tuple(pairs)


def cells(
    suite: Suite, methods: Mapping[str, Method], tasks: Mapping[str, Task]
) -> tuple[Cell, ...]:
    """The suite's cells: by task, rate (headline first), seed, then method.

    Methods come innermost, so that an interrupted grid holds complete comparisons. Raises
    ConfigError or InvalidLoss for a method that the suite's settings cannot serve.
    """
    for name in suite.methods:
        refuse_unservable(suite, methods[name])
    shared = suite.shared_identity()
    told = {name: describe_task(tasks[name]) for name in suite.tasks}
    described = {name: dict(methods[name].describe()) for name in suite.methods}
    return tuple(
        Cell(
            task=task,
            method=method,
            learning_rate=rate,
            seed=seed,
            config={
                "suite": shared,
                "task": told[task],
                "method": described[method],
                "learning_rate": rate,
                "seed": seed,
            },
        )
        for task in suite.tasks
        for rate, seed in rates_and_seeds(suite)
        for method in suite.methods
    )


def refuse_unservable(suite: Suite, method: Method) -> None:
    """Raise for a method that needs a setting which the suite does not have."""
    if method.teacher.weights == "larger" and suite.teacher_model is None:
        raise ConfigError(
            f"method {method.name!r} learns from a larger teacher, and the suite names none; "
            'add --teacher-model ID_OR_FOLDER (in TOML: teacher_model = "…")'
        )
    filtered = suite.top_p < 1.0 or suite.top_k > 0
    if isinstance(method.loss, Divergence) and method.loss.on_policy_only and filtered:
        raise InvalidLoss(
            f"method {method.name!r}: {method.loss.id} needs replies drawn from the student's "
            "whole distribution, and the suite's writer is filtered (top_p = "
            f"{suite.top_p}, top_k = {suite.top_k}), which biases its gradient; "
            "add --set top_p=1.0 --set top_k=0"
        )
