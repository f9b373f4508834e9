"""Models that a suite scores and does not train: checkpoints from elsewhere, and interpolations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from opcd_bench.config import measures
from opcd_bench.config.suite import Suite
from opcd_bench.envs.task import Task, describe_task
from opcd_bench.errors import ModelError, StoreError
from opcd_bench.evaluation.scores import Score
from opcd_bench.hashing import digest
from opcd_bench.models import adapters, loading, saving
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.progress import Reporter
from opcd_bench.runner.grid import Cell
from opcd_bench.runner.models import SuiteModels
from opcd_bench.runner.refusals import refuse_other_protocols
from opcd_bench.runner.resources import Resources
from opcd_bench.store.checkpoints import MODEL
from opcd_bench.store.files import removal
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import ENTRANT, ENTRANT_SCORES, SHARED, SharedDir


def require(suite: Suite) -> None:
    """Raise ModelError for an entrant whose config can be had from no folder and not from the Hub.

    Before the first cell: entrants are scored after the last.
    """
    for name, source in suite.entrants.items():
        try:
            loading.config_of(
                source, trust_remote_code=suite.trust_remote_code, model_dir=suite.model_dir
            )
        except ModelError as error:
            raise ModelError(f"--entrant {name}={source}: {error}") from None


class Entrants:
    """Scores entrants and interpolations on the tasks and the retention of a suite, each once.

    What a score depends on is the weights, the task and how it is decoded: a second run of the
    suite finds it stored.
    """

    def __init__(self, resources: Resources, console: Reporter) -> None:
        self.resources, self.console = resources, console
        self.suite: Suite = resources.suite

    def score(self, tasks: Mapping[str, Task], cells: Sequence[Cell]) -> int:
        """Everything that the suite asks for; ``cells`` are its sealed ones.

        How many of these could not be interpolated, since their checkpoints are gone or damaged.
        """
        for name, source in self.suite.entrants.items():
            loaded = self.resources.models.entrant(source)
            about = {"name": name, "kind": "checkpoint", "source": source}
            for task in tasks.values():
                for seed in self._seeds():
                    self._score({**about, "task": task.name, "seed": seed}, loaded, task, seed)
        return sum(not self._interpolated(cell, tasks[cell.task]) for cell in cells)

    def _seeds(self) -> range:
        """The decoding seeds of an entrant: those of the runs, where decoding has any chance."""
        first = self.suite.first_seed
        return range(first, first + (1 if self.suite.eval_temperature == 0 else self.suite.seeds))

    def _interpolated(self, cell: Cell, task: Task) -> bool:
        """A trained student between its base and itself, at each share of the training.

        False where its checkpoint is not there to do it, which is warned of.
        """
        if not self.suite.interpolate:
            return True
        reader = RunReader(self.resources.suite_dir.run(cell.name))
        step = int(reader.summary["chosen_step"])
        if step == 0:
            return True  # the student that stands in the table is the base
        dtype = None if self.resources.models.initial.dtype == torch.float32 else "float32"
        shares = self.suite.interpolate
        missing = [share for share in shares if not self._has(cell, share, dtype)]
        if not missing:
            return True  # its checkpoint may be gone by now
        kept = {checkpoint.step for checkpoint in reader.checkpoints()}
        if step not in kept and all(self._has(cell, share, None) for share in missing):
            self.console.warn(
                f"{cell.name}: an earlier version rounded its interpolations, and its checkpoint, "
                "from which they would be scored again, is gone; they stand in no table beside "
                "exact ones. Run the suite under another --name for exact ones of this run"
            )
            return True
        try:
            folder = str(reader.checkpoint_at(step).path / MODEL)
        except StoreError as error:
            why = str(error)
            if step not in kept:
                why = (
                    f"its checkpoint of step {step} is gone. Put it back from a copy, or run it "
                    f"again: type {removal(reader.path)} and then the same command again"
                )
            self.console.warn(f"{cell.name} is not interpolated: {why}")
            return False
        base = None if dtype is None else partial(float32_base, self.resources.models)
        for share, loaded in between(self.resources.models, folder, missing):
            about = {
                "name": f"{cell.method} at {share:g}",
                "kind": "interpolation",
                "method": cell.method,
                "share": share,
                "learning_rate": cell.learning_rate,
                "seed": cell.seed,
                "run": cell.name,
                "task": cell.task,
                **({} if dtype is None else {"dtype": dtype}),
            }
            self._score(about, loaded, task, cell.seed, base)
        return True

    def _has(self, cell: Cell, share: float, dtype: str | None) -> bool:
        """Whether a share of a run's training is scored on all that the suite asks for.

        ``dtype``: that of its weights, where it is not the suite's; earlier versions rounded them
        to the suite's.
        """
        suite_dir = self.resources.suite_dir
        wanted = {"test", *self.suite.retention}
        stored = [
            {
                one["measured"]
                for one in row["scores"]
                if SharedDir(suite_dir.path / SHARED / one["shared"]).has(one["name"])
            }
            for row in suite_dir.read().get(ENTRANT_SCORES, [])
            if (row.get("run"), row.get("share"), row.get("dtype")) == (cell.name, share, dtype)
        ]
        return any(wanted <= measured for measured in stored)

    def _score(
        self,
        about: dict[str, Any],
        loaded: LoadedModel,
        task: Task,
        seed: int,
        base: Callable[[], LoadedModel] | None = None,
    ) -> None:
        """``base``: makes the student before training, computed as the model is."""
        weights = saving.weights_hash(loaded.model)
        self._refuse_other_weights(about, weights)
        engine = self.resources.models.engine(loaded)
        references = self.resources.references

        def test() -> Score:
            return references.score(task, "test", loaded, engine, seed, final=True)

        with self.console.phase(f"{about['name']}: {task.name}", None, "tests") as phase:
            own = references.scoring(self.suite.for_task(task.name))
            key = {"weights": weights, "task": describe_task(task), "suite": own}
            words = self._own_words(loaded)
            key |= {**words, **references.moved(task, seed)}
            name = f"test-s{0 if self.suite.eval_temperature == 0 else seed}"
            found = [self._stored(task, "test", f"entrant-{task.name}", key, name, test)]
            for retained in self.suite.retention:
                if retained == measures.DRIFT and not self._same_words(loaded):
                    continue
                found.append(self._retained(task, retained, weights, words, loaded, base))
            phase.advance(len(found))
        row = {**about, "weights": weights, "scores": found}
        self.resources.suite_dir.merge({ENTRANT_SCORES: [row]})

    def _refuse_other_weights(self, about: Mapping[str, Any], weights: str) -> None:
        """Raise StoreError where this name's scores in this suite are those of other weights.

        Those of another type were rounded by an earlier version: they are replaced.
        """
        suite_dir = self.resources.suite_dir
        for row in suite_dir.read().get(ENTRANT_SCORES, []):
            same = all(row.get(key) == about.get(key) for key in (*ENTRANT, "dtype"))
            if same and row["weights"] != weights:
                raise StoreError(
                    f"{suite_dir.path}: {about['name']!r} was scored with other weights (SHA-256 "
                    f"{row['weights'][:10]}…, now {weights[:10]}…), and one name cannot stand for "
                    "both in a table. Give the entrant another name, or the suite with --name"
                )

    def _retained(
        self,
        task: Task,
        name: str,
        weights: str,
        words: Mapping[str, Any],
        loaded: LoadedModel,
        before: Callable[[], LoadedModel] | None,
    ) -> dict[str, str]:
        references = self.resources.references
        engine = self.resources.models.engine(loaded)
        base = references.retention_folder(name).path.name
        folder = f"{measures.NATS if measures.is_measure(name) else 'retention'}-{name}"
        key = {"weights": weights, "base": base, **words}

        def retained() -> Score:
            own = before() if before is not None and name == measures.DRIFT else None
            return references.retained(name, loaded, engine, own)

        return self._stored(task, name, f"entrant-{folder}", key, "test", retained)

    def _stored(
        self,
        task: Task,
        measured: str,
        folder: str,
        key: Mapping[str, Any],
        name: str,
        compute: Callable[[], Score],
    ) -> dict[str, str]:
        """Where a score lies, computed where it does not yet: never beside runs measured otherwise.

        Raises StoreError as `refuse_other_protocols` does.
        """
        shared = self.resources.suite_dir.shared(folder, digest(dict(key)))
        if not shared.has(name):
            refuse_other_protocols(self.resources, task, ())
            shared.put(name, compute().to_rows())
        return {"measured": measured, "shared": shared.path.name, "name": name}

    def _own_words(self, loaded: LoadedModel) -> dict[str, Any]:
        """What else prompts and responses of a model depend on; nothing where it is the base's."""
        own = _words(loaded)
        return {} if own == self._words_of_base else {"words": own}

    @cached_property
    def _words_of_base(self) -> str:
        return _words(self.resources.models.initial)

    def _same_words(self, loaded: LoadedModel) -> bool:
        """Whether drift from the base can be told: both have one vocabulary."""
        try:
            loading.same_vocabulary(self.resources.models.initial, loaded)
        except ModelError:
            return False
        return True


def _words(loaded: LoadedModel) -> str:
    """A hash of how a model reads a conversation, and of what ends a response."""
    template = str(loaded.tokenizer.chat_template)
    return digest([template, sorted(loaded.tokenizer.get_vocab().items()), list(loaded.eos_ids)])


@torch.no_grad()
def between(
    models: SuiteModels, folder: str, shares: Sequence[float]
) -> Iterator[tuple[float, LoadedModel]]:
    """(share, ``base + share (trained - base)`` of every floating weight) of each share.

    The model is float32, whatever the suite computes in: most weights of a fine-tuned bfloat16
    model are the base's or the next number that there is, and what lies between the two would be
    rounded to one of them (Wortsman et al. 2022, arXiv 2109.01903, for the interpolation).
    """
    loaded = models.frozen(folder, "float32")
    own = loaded.model.state_dict()
    distinct = {tensor.data_ptr(): name for name, tensor in own.items()}  # tied ones once
    trained = {
        name: _exact(own[name], models.initial.dtype)
        for name in distinct.values()
        if own[name].is_floating_point()
    }
    for share in shares:
        with models.whole(models.initial) as base:
            before = adapters.weights(base)
            for name, end in trained.items():
                own[name].copy_(torch.lerp(before[name].float(), end.float(), share))
            del before, base
        yield share, loaded


def _exact(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy in another type, where that holds it exactly."""
    narrow = tensor.to(dtype, copy=True)
    return narrow if torch.equal(narrow.to(tensor.dtype), tensor) else tensor.clone()


def float32_base(models: SuiteModels) -> LoadedModel:
    """A float32 copy of the student before training: every bfloat16 number is one of these."""
    with models.whole(models.initial) as whole:
        base = dataclasses.replace(adapters.plain_copy(whole), dtype=torch.float32)
    torch.nn.Module.to(base.model, torch.float32)
    return base
