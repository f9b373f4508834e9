"""First stage: plain attempts at train examples, in batches, stored as a writer's replies are."""

from __future__ import annotations

from collections.abc import Sequence

from opcd_bench.errors import DataError
from opcd_bench.models import LoadedModel
from opcd_bench.rollout.engine import Engine, Sampling
from opcd_bench.rollout.episodes import Skipped, Trajectory, play
from opcd_bench.seeds import generator, seed_of
from opcd_bench.task import Example, Task


def drawn_examples(
    task: Task, seed: int, items: int, stream: Sequence[str | int] = ()
) -> list[Example]:
    """``items`` train examples, drawn by (task, seed): all of train in turn before one comes again.

    ``stream`` are further names that the draw depends on. Nothing but train is read. Raises
    DataError where it is empty.
    """
    examples = list(task.examples("train"))
    if not examples:
        raise DataError(f"task {task.name!r} has no train examples, so nothing can be attempted")
    rng = generator("experience", task.name, seed, *stream)
    found: list[Example] = []
    while len(found) < items:
        found += rng.sample(examples, len(examples))
    return found[:items]


def attempts(
    task: Task,
    drawn: Sequence[tuple[int, Sequence[Example]]],
    loaded: LoadedModel,
    engine: Engine,
    sampling: Sampling,
    stream: Sequence[str | int] = (),
) -> list[Trajectory | Skipped]:
    """One plain attempt at each example of each (seed, examples), in one batch and in order.

    A prompt that is too long is skipped. Noise depends on (task, seed, place, example, ``stream``)
    alone.
    """
    names = [
        (task.name, seed, place, example.id, *stream)
        for seed, examples in drawn
        for place, example in enumerate(examples)
    ]
    return play(
        task,
        [example for _, examples in drawn for example in examples],
        engine,
        loaded,
        sampling,
        seeds=[seed_of("experience", *name) for name in names],
        env_seeds=[seed_of("environment", *name) for name in names],
        overlong="skip",
    )
