"""The chains of a suite as values: who is taught what, in which round, beginning from where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opcd_bench.config.experience import Experience
from opcd_bench.config.suite import Suite, make_suite
from opcd_bench.distillation.method import Method
from opcd_bench.envs.task import Task
from opcd_bench.errors import StoreError
from opcd_bench.hashing import digest
from opcd_bench.runner import grid, registry
from opcd_bench.store import checkpoints
from opcd_bench.store.chain_dir import ChainDir, chain
from opcd_bench.store.checkpoints import MODEL, Checkpoint
from opcd_bench.store.jsonl import Row, read_object
from opcd_bench.store.run_reader import CHECKPOINTS, RunReader


@dataclass(frozen=True)
class Chain:
    """One method on one task at one rate and one seed, round after round.

    ``config`` is all that its numbers depend on but the number of rounds, so that more may follow.
    """

    task: Task
    method: Method
    learning_rate: float
    seed: int
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """``<task>--<method>--lr<rate>--s<seed>--<hash10>``, as a cell's."""
        return grid.folder_name(
            self.task.name, self.method.name, self.learning_rate, self.seed, self.config
        )

    def folder(self, suite: Suite) -> ChainDir:
        """Where it lies, or will."""
        return chain(Path(suite.output_dir) / suite.name, self.name)


@dataclass(frozen=True)
class Begin:
    """What a round begins from: a checkpoint of an earlier one, or the suite's own model.

    ``weights`` is a SHA-256 over those of the checkpoint's weights' files.
    """

    checkpoint: Checkpoint | None = None
    weights: str | None = None

    @property
    def folder(self) -> str | None:
        """The model's folder; None for the suite's own."""
        return None if self.checkpoint is None else str(self.checkpoint.path / MODEL)


def experience_of(suite: Suite) -> Experience:
    """How the suite's rounds make their contexts."""
    return suite.experience or Experience()


def untold(suite: Suite) -> Suite:
    """``suite`` before its contexts are made: where they will go is not said of any task yet."""
    own = {
        task: {key: value for key, value in values.items() if key != "context_placement"}
        for task, values in suite.task_settings.items()
    }
    return suite.model_copy(update={"context_placement": None, "task_settings": own})


def as_scored(suite: Suite) -> Suite:
    """``suite`` as its rounds are scored: no training prompts where these are replayed states.

    A state has no grade, for the environment is not there.
    """
    if suite.consolidate != "replay":
        return suite
    own = {
        task: {key: value for key, value in values.items() if key != "train_items"}
        for task, values in suite.task_settings.items()
    }
    return suite.model_copy(update={"train_items": 0, "task_settings": own})


def chains(suite: Suite) -> tuple[Chain, ...]:
    """`chains_of` the suite's plugins; no model is loaded. Raises what the registry raises too."""
    return chains_of(suite, *registry.plugins_of(untold(suite)))


def chains_of(
    suite: Suite, methods: Mapping[str, Method], tasks: Mapping[str, Task]
) -> tuple[Chain, ...]:
    """The suite's chains in the order of its cells. Raises what `grid.cells` raises."""
    made = {
        "experience": experience_of(suite).model_dump(mode="json"),
        "consolidate": suite.consolidate,
    }
    found = []
    for cell in grid.cells(suite, methods, tasks):
        own = {key: value for key, value in cell.config["task"].items() if key != "context_hash"}
        if placement := suite.for_task(cell.task).context_placement:
            own["context_placement"] = placement
        shared = {key: value for key, value in cell.config["suite"].items() if key not in made}
        config = {**cell.config, "suite": shared, "task": own, **made}
        found.append(
            Chain(tasks[cell.task], methods[cell.method], cell.learning_rate, cell.seed, config)
        )
    return tuple(found)


def settings(
    suite: Suite, one: Chain, number: int, begin: Begin, contexts: tuple[str, ...] = ()
) -> Suite:
    """The suite of one round of a chain: one cell, which tells ``contexts``."""
    suite = as_scored(suite)
    adapts = any(part.teacher.by is not None for part in one.method.parts)
    values = {
        **suite.model_dump(),
        "name": f"round_{number}",
        "summary": f"Round {number} of {one.name}",
        "methods": (one.method.name,),
        "tasks": (one.task.name,),
        "learning_rate": (one.learning_rate,),
        "seeds": 1,
        "sweep_seeds": None,
        "headline_learning_rate": None,
        **({"adapted_learning_rate": grid.adapting_rate(suite)} if adapts else {}),
        "task_settings": {k: v for k, v in suite.task_settings.items() if k == one.task.name},
        "output_dir": str(one.folder(suite).path),
        "jobs": 1,
        "cluster": "local",  # the chain itself is the job
        "cluster_options": {},
        "rounds": 1,
        "experience": None,
        "consolidate": "environment",  # a replay is the task's, and enters the identity with it
        "round": number,
        "begin_weights": begin.weights,
        "begin_folder": begin.folder,
        "context": contexts,
    }
    if not contexts:
        values["context_placement"] = None
    return make_suite(values, f"round {number} of {one.name}")


def after(run: Path, before: Begin, record: Row | None = None) -> Begin:
    """What the round after a sealed run begins from; ``before`` where it chose the step 0.

    ``record``: how that round's context was made, if it was. It knows what it began from, so that
    the checkpoint may be gone by now; without it a StoreError is raised. Files are not checked.
    """
    reader = RunReader(run)
    step = int(reader.summary["chosen_step"])
    if step == 0:
        return before
    kept = {checkpoint.step: checkpoint for checkpoint in reader.checkpoints()}
    if step not in kept:
        gone = Checkpoint(step, run / CHECKPOINTS / checkpoints.folder_name(step))
        if record is None or record["begin_weights"] is None:
            raise _missing(gone)
        return Begin(gone, record["begin_weights"])
    manifest = kept[step].path / checkpoints.MANIFEST
    listed = checkpoints.read_listing(read_object(manifest), manifest)
    files = {
        name: file.sha256
        for name, file in listed.items()
        if name.startswith(f"{MODEL}/") and name.endswith(".safetensors")
    }
    return Begin(kept[step], digest(files, 64))


def refuse_unusable(begin: Begin) -> None:
    """Raise StoreError where the checkpoint that a round is to begin from is gone or damaged."""
    if begin.checkpoint is None:
        return
    if not (begin.checkpoint.path / checkpoints.MANIFEST).is_file():
        raise _missing(begin.checkpoint)
    checkpoints.checked(begin.checkpoint, sealed=True)


def _missing(gone: Checkpoint) -> StoreError:
    return StoreError(
        f"{gone.path.parents[1]}: its chosen checkpoint (step {gone.step}) is missing, but the "
        "next round starts from it. Put it back from a copy, or run the chain again under another "
        "--name"
    )
