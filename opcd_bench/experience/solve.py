"""First stage: plain attempts at train examples, in batches, stored as a writer's replies are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from opcd_bench.envs.task import Example, Task
from opcd_bench.errors import DataError
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.rollout.engine import Engine, Sampling
from opcd_bench.rollout.episodes import play
from opcd_bench.rollout.trajectory import Skipped, Trajectory
from opcd_bench.seeds import generator, seed_of


@dataclass(frozen=True)
class Limited(Sampling):
    """How replies are drawn where prompts above ``max_prompt_length`` tokens are skipped.

    A kind of sampling, for it enters whatever says how attempts were made.
    """

    max_prompt_length: int = 0


def limited(sampling: Sampling, most: int | None) -> Sampling:
    """``sampling`` of prompts of at most ``most`` tokens; as it is where None."""
    return sampling if most is None else Limited(**asdict(sampling), max_prompt_length=most)


def most_of(sampling: Sampling) -> int | None:
    """The longest prompt that is attempted; None: any that the model reads."""
    return sampling.max_prompt_length if isinstance(sampling, Limited) else None


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

    A prompt that is too long, for the model or above `most_of` the sampling, is skipped. Noise
    depends on (task, seed, place, example, ``stream``) alone.
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
        max_prompt_length=most_of(sampling),
        overlong="skip",
    )
