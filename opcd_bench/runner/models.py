"""The models of a suite: loaded once, known by their weights."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from opcd_bench.config.suite import Suite
from opcd_bench.distillation import noise, scoring
from opcd_bench.errors import ConfigError
from opcd_bench.models import adapters, loading, saving
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.models.merged import as_published
from opcd_bench.rollout.engine import Engine
from opcd_bench.rollout.engines import Engines, Servers
from opcd_bench.seeds import seed_of


class SuiteModels:
    """The student before training, the student that is trained, and the larger teacher.

    ``initial`` is frozen. With LoRA both students are one module, its adapter off and on.
    ``identity`` is what stored scores and replies of ``initial`` depend on. ``date`` is what chat
    templates that print today's date print.
    """

    def __init__(self, suite: Suite, date: str | None = None) -> None:
        self.suite, self.date = suite, date
        dtype = "float32" if suite.dtype == "auto" else suite.dtype
        if suite.bf16:
            dtype = "bfloat16"
        servers = Servers(suite)
        # A round begins from a checkpoint of the one before, and so does its frozen teacher.
        source = suite.begin_folder or suite.model
        revision = suite.revision if suite.begin_folder is None else None
        self.initial = loading.freeze(
            loading.load(
                source, revision=revision, dtype=dtype, **self._loading(suite.begin_folder is None)
            )
        )
        scoring.assert_faithful(self.initial)
        noise.disable_dropout(self.initial.model)  # students are copies of it
        noise.assert_repeatable(self.initial)
        self.identity: dict[str, Any] = {
            "model": suite.model,
            "weights": saving.weights_hash(self.initial.model),
            "dtype": dtype,
            **self.computed(),
        }
        self._student: LoadedModel | None = None
        if suite.lora_rank is not None:
            self._student = adapters.attach(
                self.initial,
                rank=suite.lora_rank,
                alpha=suite.lora_alpha,
                targets=suite.lora_target_modules,
                seed=seed_of("lora", 0),
            )
            self.initial = adapters.before(self._student)
        self._larger: PromptFormat | None = None
        self.engines = Engines(suite, self.initial, servers)

    def computed(self) -> dict[str, Any]:
        """What else replies depend on; nothing where it is as it ever was, so old keys stay."""
        suite = self.suite
        own = {
            "thinking": suite.enable_thinking,
            "engine": suite.engine if suite.engine != "hf" else None,
            "attention": (
                suite.attn_implementation if suite.attn_implementation != "auto" else None
            ),
        }
        return {key: value for key, value in own.items() if value}

    def _loading(self, by_name: bool = True) -> dict[str, Any]:
        """How every model of the suite is loaded; ``by_name``: it may lie in the model_dir."""
        suite = self.suite
        return {
            "device": suite.device,
            "attn_implementation": suite.attn_implementation,
            "trust_remote_code": suite.trust_remote_code,
            "enable_thinking": suite.enable_thinking,
            "allow_pickle": suite.allow_pickle,
            "date": self.date,
            "model_dir": suite.model_dir if by_name else None,
        }

    def fresh_student(self, seed: int = 0) -> LoadedModel:
        """The student with its weights before training; one module serves every cell in turn.

        With LoRA it is the frozen model's own module, its adapter on and drawn anew from ``seed``.
        """
        if self._student is None:
            module = copy.deepcopy(self.initial.model).requires_grad_(True)
            self._student = dataclasses.replace(self.initial, model=module)
        elif self._student.adapter is None:
            self.restore(self._student)
        if self._student.adapter is not None:
            adapters.reset(self._student, seed_of("lora", seed))
        loading.reset_modes(self._student)
        return self._student

    def restore(self, student: LoadedModel) -> None:
        """Give the student its weights before training."""
        if student.adapter is not None:
            adapters.zero_adapter(student)
            return
        student.model.load_state_dict(self.initial.model.state_dict())

    def larger(self) -> PromptFormat:
        """The suite's larger teacher, frozen or served; refused if its vocabulary is another."""
        if self._larger is None:
            if self.suite.teacher_model is None:
                raise ConfigError("a method learns from a larger teacher; say teacher_model = …")
            if self.suite.teacher_url is not None:
                self._larger = self.engines.served_larger()
                return self._larger
            self._larger = self._loaded_larger("bfloat16" if self.suite.bf16 else self.suite.dtype)
        return self._larger

    def _loaded_larger(self, dtype: str) -> LoadedModel:
        teacher = loading.load(str(self.suite.teacher_model), dtype=dtype, **self._loading())
        loading.same_vocabulary(self.initial, teacher)
        frozen = loading.freeze(teacher)
        scoring.assert_faithful(frozen)
        return frozen

    @cached_property
    def larger_identity(self) -> dict[str, Any] | None:
        """What numbers made with the larger teacher depend on; None where there is none."""
        if self.suite.teacher_model is None:
            return None
        larger = self.larger()
        if not isinstance(larger, LoadedModel):
            served = self.engines.server.model
            return {"model": self.suite.teacher_model, "served": served, **self.computed()}
        return {
            "model": self.suite.teacher_model,
            "weights": self._hash_of_larger(larger),
            "dtype": str(larger.dtype).removeprefix("torch."),
            **self.computed(),
        }

    def _hash_of_larger(self, larger: LoadedModel) -> str:
        return saving.weights_hash(larger.model)

    def frozen(self, folder: str, dtype: str | None = None) -> LoadedModel:
        """A model of a folder: a teacher, or one that is only scored; as the suite computes.

        ``dtype``: that of its weights, where it is another.
        """
        dtype = dtype or str(self.initial.dtype).removeprefix("torch.")
        loaded = loading.load(folder, dtype=dtype, **self._loading(by_name=False))
        loading.same_vocabulary(self.initial, loaded)
        return loading.freeze(loaded)

    def entrant(self, source: str) -> LoadedModel:
        """A model that the suite only scores: of any vocabulary, with its own template."""
        dtype = str(self.initial.dtype).removeprefix("torch.")
        loaded = loading.freeze(loading.load(source, dtype=dtype, **self._loading()))
        scoring.assert_faithful(loaded)
        return loaded

    def engine(self, prompts: PromptFormat) -> Engine:
        """The suite's rollout engine on a model's live weights (a served teacher's own)."""
        return self.engines.of(prompts, larger=prompts is self._larger)

    @contextmanager
    def whole(self, loaded: LoadedModel) -> Iterator[LoadedModel]:
        """The model with all of its weights in this process: as it is."""
        yield loaded

    @contextmanager
    def published(self, student: LoadedModel) -> Iterator[tuple[LoadedModel, Engine]]:
        """The student as a checkpoint publishes it, and its engine."""
        with as_published(student) as loaded:
            yield loaded, self.engine(loaded)

    @contextmanager
    def compared(self, student: LoadedModel) -> Iterator[tuple[LoadedModel, LoadedModel]]:
        """The model before training and the student, to be read in turn.

        With an adapter they are one module, whose weights are not merged meanwhile.
        """
        yield self.initial, student

    def weights(self) -> dict[str, str]:
        """The hashes of the weights that a suite's runs begin from and are taught by."""
        found = {"weights": self.identity["weights"]}
        if self.larger_identity is not None:
            larger = self.larger_identity
            found["larger_weights"] = larger.get("weights") or str(larger["served"])
        return found
