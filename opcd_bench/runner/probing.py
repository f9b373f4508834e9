"""What a probe of stored runs works with: their suite as it was run, and their students."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opcd_bench.config.suite import Suite, is_identity, make_suite
from opcd_bench.errors import ConfigError, StoreError
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.runner import model_folders
from opcd_bench.runner.resources import Resources
from opcd_bench.store.checkpoints import MODEL
from opcd_bench.store.run_reader import CHECKPOINTS, RunReader
from opcd_bench.store.suite_dir import SuiteDir, is_suite

BASE = "base"
"""In place of a run's name: the student before training."""


@dataclass(frozen=True)
class Student:
    """A student that is probed: where it comes from, and how it is loaded.

    ``about``: ``name`` (the run's folder, or `BASE`), ``task``, ``method``, ``learning_rate``,
    ``seed`` and ``step``; the second to last ones None for the base where they mean nothing.
    """

    about: Mapping[str, Any]
    load: Callable[[], LoadedModel]


@dataclass(frozen=True)
class Place:
    """A run, or one of its checkpoints (``step``), in the suite's folder ``root``."""

    root: Path
    run: Path
    step: int | None = None


def places(paths: Sequence[Path]) -> list[Place]:
    """Runs, checkpoints and suites (all their sealed runs) as settled places, each once.

    StoreError where they are of several suites, a run lies in none, or kept no checkpoint.
    """
    found: dict[tuple[Path, int | None], Place] = {}
    for path in paths:
        for place in map(settled, _places(path.resolve())):
            found.setdefault((place.run, place.step), place)
    roots = sorted({place.root for place in found.values()})
    if len(roots) > 1:
        raise StoreError(
            f"the runs lie in {len(roots)} suites ({', '.join(map(str, roots))}); probe those of "
            "one suite at a time"
        )
    return list(found.values())


def _places(path: Path) -> list[Place]:
    if path.parent.name == CHECKPOINTS:
        run, step = path.parents[1], int(path.name.removeprefix("step_"))
        return [Place(_root(run), run, step)]
    if not is_suite(path):
        return [Place(_root(path), path)]
    runs = [run for run in SuiteDir(path).runs() if RunReader(run).sealed]
    if not runs:
        raise StoreError(f"{path}: no run of it is finished, so there is nothing to probe")
    return [Place(path, run) for run in runs]


def _root(run: Path) -> Path:
    if not is_suite(run.parent):
        raise StoreError(
            f"{run}: lies in no suite, whose settings a probe reads; give a run in results/SUITE/"
        )
    return run.parent


def method_of(place: Place) -> Mapping[str, Any]:
    """A run's method as it is described."""
    found: Mapping[str, Any] = RunReader(place.run).config["method"]
    return found


def task_of(place: Place) -> str:
    """The name of a run's task."""
    return str(RunReader(place.run).config["task"]["name"])


def task_and_seed(place: Place) -> tuple[str, int]:
    """The task and the seed of a run."""
    return task_of(place), int(RunReader(place.run).config["seed"])


def bases(found: Sequence[Place], tasks: Iterable[str]) -> list[tuple[str, int]]:
    """The (task, seed) of runs, each once; without runs seed 0 of the ``tasks``."""
    return list(dict.fromkeys(map(task_and_seed, found))) or [(name, 0) for name in tasks]


def stored_suite(root: Path, given: Mapping[str, Any]) -> Suite:
    """The suite of a folder as it was run; ``given``: settings that move no number.

    ConfigError for one that does: a probe measures what was trained.
    """
    for key in given:
        if is_identity(key):
            raise ConfigError(
                f"--set {key}: numbers of the stored runs depend on it, so a probe keeps theirs; "
                "only settings such as device, engine, rollout_batch_size and threads can be given"
            )
    stored = SuiteDir(root).read()
    values = {key: stored[key] for key in Suite.model_fields if key in stored}
    # Folders of before `larger_weights` have another hash at `teacher_weights` than runs do.
    values |= dict.fromkeys(model_folders.HASHES)
    values |= {"name": root.name, "output_dir": str(root.parent), **given}
    return model_folders.located(make_suite(values, f"{root / 'suite.json'}"))


def settled(place: Place) -> Place:
    """The place with its step: of a sealed run that which it chose, of an unfinished one its last.

    StoreError where no checkpoint of that step was kept.
    """
    reader, step = RunReader(place.run), place.step
    if step is None and reader.sealed:
        step = int(reader.summary["chosen_step"])
    kept = {one.step for one in reader.checkpoints()}
    if step is None:
        step = max(kept, default=None)
    if step != 0 and step not in kept:
        raise StoreError(
            f"{place.run}: kept no checkpoint{'' if step is None else f' of step {step}'}, so its "
            "student cannot be asked again. Run it with --set keep_checkpoints=chosen (under "
            "another --name, if it is finished)"
        )
    return Place(place.root, place.run, step)


def student(resources: Resources, place: Place) -> Student:
    """The student of a settled place."""
    config, step = RunReader(place.run).config, place.step
    assert step is not None, "settled"
    about = {
        "name": place.run.name,
        "task": config["task"]["name"],
        "method": config["method"]["name"],
        "learning_rate": config["learning_rate"],
        "seed": config["seed"],
        "step": step,
    }
    if step == 0:
        return Student(about, lambda: resources.models.initial)
    folder = RunReader(place.run).checkpoint_at(step).path / MODEL
    return Student(about, lambda: resources.models.frozen(str(folder)))


def base(resources: Resources, task: str, seed: int) -> Student:
    """The student before training, as a student among others."""
    about = {"name": BASE, "task": task, "method": BASE, "learning_rate": None, "seed": seed}
    return Student({**about, "step": 0}, lambda: resources.models.initial)
