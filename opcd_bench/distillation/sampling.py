"""Which replies an optimiser step needs, and how a model samples them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from opcd_bench.config.suite import Suite
from opcd_bench.envs.task import Contexts, Example, Task
from opcd_bench.errors import DataError
from opcd_bench.models.loaded import PromptFormat
from opcd_bench.rollout.engine import Engine, Sampling
from opcd_bench.rollout.episodes import play
from opcd_bench.rollout.trajectory import Skipped, Trajectory
from opcd_bench.seeds import generator, seed_of


@dataclass(frozen=True)
class Slot:
    """One reply to be written: which example, in which optimiser step, which of its generations.

    ``generation`` counts an example's replies within the step, ``number`` those since the first
    step of the run, or of the first round.
    """

    step: int
    example: Example
    generation: int
    number: int = 0


def schedule(task: Task, suite: Suite, seed: int, step: int) -> list[Slot]:
    """The slots of an optimiser step: shuffled epochs over train, the same for every method.

    A later round goes on in the epochs where the one before it ended.
    """
    examples = task.examples("train")
    if not examples:
        raise DataError(f"task {task.name!r} has no train examples")
    step += (suite.round - 1) * suite.max_steps
    first = step * suite.batch_size
    slots: list[Slot] = []
    for position in range(first, first + suite.batch_size):
        epoch, place = divmod(position, len(examples))
        example = examples[_order(task.name, seed, epoch, len(examples))[place]]
        # An epoch that ends within the step can bring an example twice: not with the same noise.
        before = sum(slot.example.id == example.id for slot in slots)
        each, number = range(suite.num_generations), epoch * suite.num_generations
        slots.extend(Slot(step, example, before + g, number + g) for g in each)
    return slots


@lru_cache(maxsize=8)
def _order(task_name: str, seed: int, epoch: int, n: int) -> tuple[int, ...]:
    order = list(range(n))
    generator("order", task_name, seed, epoch).shuffle(order)
    return tuple(order)


def reply_sampling(suite: Suite) -> Sampling:
    """How training replies are drawn."""
    return Sampling(suite.temperature, suite.top_p, suite.top_k, suite.max_completion_length)


def sample_replies(
    slots: Sequence[Slot],
    task: Task,
    suite: Suite,
    seed: int,
    loaded: PromptFormat,
    engine: Engine,
    contexts: Contexts | None,
) -> list[Trajectory | Skipped]:
    """Trajectories of the slots, by whichever model ``engine`` runs; told if there are contexts.

    Noise depends on (task, seed, step, example, generation), not on the method nor on the writer.
    """
    names = [(task.name, seed, s.step, s.example.id, s.generation) for s in slots]
    told = None
    if contexts is not None:
        told = [contexts.of(task.name, seed, slot.example.id) for slot in slots]
    return play(
        task,
        [slot.example for slot in slots],
        engine,
        loaded,
        reply_sampling(suite),
        seeds=[seed_of("write", *name) for name in names],
        env_seeds=[seed_of("environment", *name) for name in names],
        context=told,
        max_prompt_length=suite.max_prompt_length,
        overlong=suite.overlong,
    )
