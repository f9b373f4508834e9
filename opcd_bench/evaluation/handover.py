"""Responses that are handed over: cut at a share of their tokens, gone on with, and graded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opcd_bench.config.suite import Suite
from opcd_bench.envs.task import Context, Contexts, Example, Split, Task
from opcd_bench.evaluation.scores import score_of
from opcd_bench.evaluation.task_scores import sample_row
from opcd_bench.models.loaded import PromptFormat
from opcd_bench.rollout.begun import Begun, begun
from opcd_bench.rollout.engine import Engine, Sampling
from opcd_bench.rollout.episodes import play
from opcd_bench.rollout.trajectory import Skipped, Trajectory
from opcd_bench.seeds import seed_of

SHARES = (0.0, 0.25, 0.5, 0.75)
"""Of a response's tokens, after which another writer goes on."""


def first_responses(
    task: Task,
    examples: Sequence[Example],
    loaded: PromptFormat,
    engine: Engine,
    sampling: Sampling,
    suite: Suite,
    seed: int,
    contexts: Contexts | None,
) -> list[Trajectory | Skipped]:
    """One attempt an example: what is handed over. ``contexts``: what the writer is told."""
    return play(
        task,
        list(examples),
        engine,
        loaded,
        sampling,
        seeds=[seed_of("hand over", task.name, seed, e.id) for e in examples],
        env_seeds=[_chance(task, seed, e) for e in examples],
        context=_told(task, examples, seed, contexts),
        max_prompt_length=suite.max_prompt_length,
        overlong=suite.overlong,
    )


def continued(
    task: Task,
    split: Split,
    examples: Sequence[Example],
    first: Sequence[Trajectory | Skipped],
    share: float,
    continuations: int,
    loaded: PromptFormat,
    engine: Engine,
    sampling: Sampling,
    suite: Suite,
    seed: int,
    contexts: Contexts | None,
) -> list[dict[str, Any]]:
    """``continuations`` graded samples of each attempt that was played, from ``share`` of it on.

    A row is that of `sample_row` (its response holds what was handed over), with the ``share``, and
    of the first attempt its ``first_outcome`` and how many ``first_tokens`` of it were kept. Only
    the first sample keeps its ``turns``: their texts take most of the space. Noise depends on
    (task, seed, example, share, sample) and not on the writer.
    """
    begins: list[tuple[Example, Trajectory, Begun]] = [
        (example, one, begun(one, share))
        for example, one in zip(examples, first, strict=True)
        if isinstance(one, Trajectory) and one.turns
    ]
    slots = [(*of, sample) for of in begins for sample in range(continuations)]
    chosen = [example for example, *_ in slots]
    results = play(
        task,
        chosen,
        engine,
        loaded,
        sampling,
        seeds=[seed_of("goes on", task.name, seed, e.id, f"{share:g}", i) for e, _, _, i in slots],
        env_seeds=[_chance(task, seed, example) for example in chosen],
        context=_told(task, chosen, seed, contexts),
        max_prompt_length=suite.max_prompt_length,
        overlong=suite.overlong,
        begun=[of for _, _, of, _ in slots],
    )
    rows = [
        {
            **sample_row(task, split, contexts is not None, sample, result),
            "share": share,
            "first_outcome": one.outcome,
            "first_tokens": len(of.ids) + sum(len(reply.ids) for reply in of.replies),
        }
        for (_, one, of, sample), result in zip(slots, results, strict=True)
    ]
    return [
        {**row, "score": score_of(row), "turns": [] if row["sample"] else row["turns"]}
        for row in rows
    ]


def _chance(task: Task, seed: int, example: Example) -> int:
    """The environment's chance: one for an example, or a turn could not be played again."""
    return seed_of("environment", "hand over", task.name, seed, example.id)


def _told(
    task: Task, examples: Sequence[Example], seed: int, contexts: Contexts | None
) -> list[Context] | None:
    return None if contexts is None else [contexts.of(task.name, seed, e.id) for e in examples]
