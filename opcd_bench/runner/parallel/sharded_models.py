"""The models of a suite whose cells several processes compute: sharded, and whole for a while."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.division import runs
from opcd_bench.distillation.masters import kept
from opcd_bench.distillation.parallel import sharding, whole
from opcd_bench.distillation.parallel.peers import Peers
from opcd_bench.errors import CellFailed, DataError
from opcd_bench.models import adapters, shards
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.models.merged import as_published
from opcd_bench.rollout.engine import Engine, Reply, Request, Sampling
from opcd_bench.rollout.hf import HFEngine
from opcd_bench.runner.models import SuiteModels
from opcd_bench.runner.parallel.crew import MAKE, together, works
from opcd_bench.runner.parallel.shared_engine import SharedEngine


class Reading(NamedTuple):
    """One of the sharded models, and whether an adapter on it is merged as it is published."""

    model: str
    published: bool = False


class ShardedModels(SuiteModels):
    """As `SuiteModels`, but every process holds a share of each model alone.

    Where a model is sampled from, scored or stored, every process has a whole copy for as long.
    """

    def __init__(self, suite: Suite, peers: Peers, date: str | None = None) -> None:
        self.peers = peers
        self._sharded: dict[str, LoadedModel] = {}
        self._whole: dict[Reading, LoadedModel] = {}
        self._open: dict[Reading, ExitStack] = {}
        with together("models", MAKE, suite, date):
            super().__init__(suite, date)
            self._shard()

    def _shard(self) -> None:
        if self._student is not None:  # of an adapter: one module for both
            self._student = self._put("student", self._student)
            self.initial = self._sharded["initial"] = adapters.before(self._student)
            return
        module = copy.deepcopy(self.initial.model).requires_grad_(True)
        student = dataclasses.replace(self.initial, model=module)
        self.initial = self._put("initial", self.initial)
        self._student = self._put("student", student, masters=kept(self.suite))

    def _put(self, key: str, loaded: LoadedModel, *, masters: bool = False) -> LoadedModel:
        """Shard a model that lies in this process's memory, and remember it."""
        self._sharded[key] = whole.divided(loaded, self.peers, masters=masters)
        return self._sharded[key]

    def _loading(self, by_name: bool = True) -> dict[str, Any]:
        """Models that are sharded are loaded into the CPU's memory."""
        return {**super()._loading(by_name), "device": "cpu"}

    def restore(self, student: LoadedModel) -> None:
        """Give the student its weights before training."""
        if student.adapter is not None:
            adapters.zero_adapter(student)
            return
        sharding.rest(student.model)
        sharding.rest(self.initial.model)
        with torch.no_grad():
            for own, before in zip(
                student.model.parameters(), self.initial.model.parameters(), strict=True
            ):
                shards.local(own).copy_(shards.local(before))

    def larger(self) -> PromptFormat:
        """The suite's larger teacher, frozen and sharded; refused if its vocabulary is another."""
        if self._larger is None:
            with together("models", "larger"):
                super().larger()
        assert self._larger is not None
        return self._larger

    def _loaded_larger(self, dtype: str) -> LoadedModel:
        if dtype == "auto" and self.peers.device.type == "cuda":
            dtype = "bfloat16"  # as on one GPU, though it is loaded into the CPU's memory
        loaded = super()._loaded_larger(dtype)
        self._larger_hash = super()._hash_of_larger(loaded)
        return self._put("larger", loaded)

    def _hash_of_larger(self, larger: LoadedModel) -> str:
        return self._larger_hash

    def frozen(self, folder: str, dtype: str | None = None) -> LoadedModel:
        """A model that the first process alone scores."""
        return self._here(super().frozen(folder, dtype))

    def entrant(self, source: str) -> LoadedModel:
        """A model that the first process alone scores."""
        return self._here(super().entrant(source))

    def _here(self, loaded: LoadedModel) -> LoadedModel:
        torch.nn.Module.to(loaded.model, self.peers.device)
        return dataclasses.replace(loaded, device=self.peers.device)

    # --- whole for a while ------------------------------------------------------------------------

    def engine(self, prompts: PromptFormat) -> Engine:
        """Every process samples its share of the replies; of other models the first does alone."""
        reading = self._reading(prompts)
        return super().engine(prompts) if reading is None else self._engine(prompts, reading)

    def _engine(self, prompts: PromptFormat, reading: Reading) -> Engine:
        return SharedEngine(prompts, lambda asked, how: self.write(reading, asked, how))

    def _reading(self, prompts: PromptFormat) -> Reading | None:
        """Which of the sharded models it is; None of another one."""
        for key, own in self._sharded.items():
            if isinstance(prompts, LoadedModel) and own.model is prompts.model:
                if own.adapter is None or own.adapter == prompts.adapter:
                    return Reading(key)
        return None

    @contextmanager
    def whole(self, loaded: LoadedModel) -> Iterator[LoadedModel]:
        """The model with all of its weights in the first process, whatever that asks it."""
        reading = self._reading(loaded)
        if reading is None:
            yield loaded
            return
        with self._held(reading) as copy_of_it:
            yield copy_of_it

    @contextmanager
    def published(self, student: LoadedModel) -> Iterator[tuple[LoadedModel, Engine]]:
        """The student as a checkpoint publishes it, whole, and its engine."""
        reading = Reading("student", published=student.adapter is not None)
        with self._held(reading) as copy_of_it:
            yield copy_of_it, self._engine(copy_of_it, reading)

    @contextmanager
    def compared(self, student: LoadedModel) -> Iterator[tuple[LoadedModel, LoadedModel]]:
        """Both whole: of an adapter two copies, and the student's is merged."""
        with self.whole(self.initial) as base, self.published(student) as (loaded, _):
            yield base, loaded

    @contextmanager
    def _held(self, reading: Reading) -> Iterator[LoadedModel]:
        if reading in self._whole:
            yield self._whole[reading]
            return
        self.hold(reading)
        try:
            yield self._whole[reading]
        finally:
            if works():
                self.release(reading)

    def hold(self, reading: Reading) -> None:
        """Make whole copies of a model, in all processes."""
        with together("models", "hold", reading):
            stack, key = ExitStack(), reading.model
            loaded = whole.of(self._sharded[key])
            if reading.published:
                loaded = stack.enter_context(as_published(loaded))
            self._whole[reading], self._open[reading] = loaded, stack

    def release(self, reading: Reading) -> None:
        """Drop the whole copies of a model, in all processes."""
        with together("models", "release", reading):
            self._open.pop(reading).close()
            del self._whole[reading]
            if self.peers.device.type == "cuda":
                torch.cuda.empty_cache()  # the copy was most of the memory

    def write(
        self, reading: Reading, requests: Sequence[Request], sampling: Sampling
    ) -> list[Reply]:
        """Replies of a model: each process writes its share, and the first has them all."""
        with together("models", "write", reading, requests, sampling):
            held = reading in self._whole
            if not held:
                self.hold(reading)
            mine = runs(len(requests), self.peers.size)[self.peers.rank]
            engine = HFEngine(self._whole[reading], batch_size=self.suite.rollout_batch_size)
            written: list[Reply] | CellFailed
            try:
                written = engine.generate([requests[i] for i in mine], sampling) if mine else []
            except CellFailed as error:  # said once all have come this far
                written = error
            except DataError as error:
                written = CellFailed(str(error))
            everybody = self.peers.gather(written)
            if not held:
                self.release(reading)
        for one in everybody:
            if isinstance(one, CellFailed):
                raise one
        return [reply for replies in everybody for reply in replies]
