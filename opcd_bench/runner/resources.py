"""What the cells of a grid share: the loaded models, the base and ceiling scores, told replies."""

from __future__ import annotations

import copy
import dataclasses
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from opcd_bench.config.suite import Suite
from opcd_bench.distillation import sampling, scoring
from opcd_bench.distillation.engines import Serving, refuse_moving_teacher
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.method import Method
from opcd_bench.distillation.optimiser import require_eight_bit
from opcd_bench.distillation.top_k_teacher import TopKTeacher
from opcd_bench.envs.task import Split, Task
from opcd_bench.errors import ConfigError, InvalidLoss
from opcd_bench.evaluation import retention, task_scores
from opcd_bench.hashing import digest
from opcd_bench.models import adapters, loading, saving
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.progress import Reporter
from opcd_bench.rollout.engine import Engine
from opcd_bench.rollout.trajectory import Skipped, Trajectory
from opcd_bench.runner import registry
from opcd_bench.runner.grid import describe_task
from opcd_bench.seeds import seed_of
from opcd_bench.store.suite_dir import SharedDir, SuiteDir


@dataclass(frozen=True)
class Measured:
    """A score with its samples, whichever scorer it comes from.

    ``primary`` names the metric that tables show; ``split`` is ``retention`` for what is never
    trained on. ``samples`` have ``example_id`` and ``score`` (None: unscored), in fixed order.
    """

    task: str
    split: str
    primary: str
    metrics: Mapping[str, float | None]
    n: int
    n_unscored: int
    protocol_hash: str
    samples: tuple[Mapping[str, Any], ...]


class Workbench:
    """Loads each model once and computes each shared score once."""

    def __init__(self, suite: Suite, suite_dir: SuiteDir, console: Reporter) -> None:
        if suite.threads is not None:
            torch.set_num_threads(suite.threads)
        if suite.optim == "adamw_8bit":
            require_eight_bit()
        if suite.lora_rank is not None:
            adapters.require_peft()
        self.suite, self.suite_dir, self.console = suite, suite_dir, console
        dtype = "float32" if suite.dtype == "auto" else suite.dtype
        # A round begins from a checkpoint of the one before, and so does its frozen teacher.
        source = suite.begin_folder or suite.model
        revision = suite.revision if suite.begin_folder is None else None
        self.initial = loading.freeze(
            loading.load(source, revision=revision, dtype=dtype, **self._loading())
        )
        scoring.assert_faithful(self.initial)
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
        self.serving = Serving(suite, self.initial)
        self._told: dict[str, list[list[Trajectory | Skipped]]] = {}
        self._measured: dict[tuple[str, ...], Measured] = {}

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

    # --- models -----------------------------------------------------------------------------------

    def _loading(self) -> dict[str, Any]:
        """How every model of the suite is loaded."""
        suite = self.suite
        return {
            "device": suite.device,
            "attn_implementation": suite.attn_implementation,
            "trust_remote_code": suite.trust_remote_code,
            "enable_thinking": suite.enable_thinking,
            "allow_pickle": suite.allow_pickle,
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
                self._larger = self.serving.served_larger()
                return self._larger
            teacher = loading.load(
                self.suite.teacher_model, dtype=self.suite.dtype, **self._loading()
            )
            loading.same_vocabulary(self.initial, teacher)
            frozen = loading.freeze(teacher)
            scoring.assert_faithful(frozen)
            self._larger = frozen
        return self._larger

    @cached_property
    def larger_identity(self) -> dict[str, Any] | None:
        """What numbers made with the larger teacher depend on; None where there is none."""
        if self.suite.teacher_model is None:
            return None
        larger = self.larger()
        if not isinstance(larger, LoadedModel):
            served = self.serving.server.model
            return {"model": self.suite.teacher_model, "served": served, **self.computed()}
        return {
            "model": self.suite.teacher_model,
            "weights": saving.weights_hash(larger.model),
            "dtype": str(larger.dtype).removeprefix("torch."),
            **self.computed(),
        }

    def engine(self, loaded: PromptFormat) -> Engine:
        """The suite's rollout engine on a model's live weights (a served teacher's own)."""
        return self.serving.writer(loaded, larger=loaded is self._larger)

    def listed_teacher(self, method: Method) -> TopKTeacher | None:
        """The vLLM that scores for a method's teacher; None: a model in this process does, or none.

        Raises InvalidLoss for a teacher that vLLM cannot be.
        """
        loss = method.loss
        needs_none = isinstance(loss, Divergence) and loss.teacher_needs == "none"
        if self.suite.teacher_engine == "hf" or needs_none:
            return None
        refuse_moving_teacher(method)
        weights = self.larger() if method.teacher.weights == "larger" else self.initial
        return self.serving.teacher(weights if isinstance(weights, LoadedModel) else None)

    def check(self, methods: Sequence[Method]) -> None:
        """Refuse, before any step, a loss whose k exceeds the vocabulary, or a foreign teacher."""
        self.serving.start()
        for method in methods:
            k = getattr(method.loss, "k", None)
            if k is not None and k > self.initial.vocab_size:
                raise InvalidLoss(
                    f"method {method.name!r}: k = {k} is above the vocabulary of "
                    f"{self.suite.model} ({self.initial.vocab_size} tokens); lower k in the "
                    "method's file, or use the full vocabulary: named('rkl_full')"
                )
            if method.teacher.weights == "larger":
                self.larger()
            listed = self.listed_teacher(method)
            loss = self.serving.loss_of(method, listed)
            if listed is not None and isinstance(loss, Divergence):
                listed.assert_lists(loss)

    # --- scores -----------------------------------------------------------------------------------

    def score(
        self,
        task: Task,
        split: Split,
        loaded: PromptFormat,
        engine: Engine,
        seed: int,
        *,
        told: bool = False,
        final: bool = False,
    ) -> Measured:
        """Score a model on a split: ``eval_samples`` samples an example on test, one on dev."""
        if (split == "test") != final:
            raise AssertionError("test is scored once, after the choice; nothing else may read it")
        suite = self.suite.for_task(task.name)
        scored = task_scores.evaluate(
            task,
            split,
            items=suite.test_items if final else suite.dev_items,
            samples=suite.eval_samples if final else 1,
            told=told,
            loaded=loaded,
            engine=engine,
            suite=suite,
            seed=0 if suite.eval_temperature == 0 else seed,
        )
        return _measured(task.name, split, scored)

    def base(self, task: Task, split: Split, seed: int) -> Measured:
        """The student before training, plain: once per task, split and decoding seed."""
        return self._anchor("base", task, split, seed)

    def anchors(self, task: Task, seed: int) -> list[dict[str, str]]:
        """Base and ceiling on test and base retention, scored once; where each is stored."""
        larger = self.suite.teacher_model is not None
        readings = ["base", "ceiling", *(["ceiling-larger"] if larger else [])]
        folder = self._anchor_dir(task).path.name
        found = []
        for reading in readings:
            self._anchor(reading, task, "test", seed)
            name = self._anchor_name(reading, "test", seed)
            found.append({"reading": reading, "shared": folder, "name": name})
        self.base_retention()
        for name in self.suite.retention:
            shared = self._retention_dir(name).path.name
            found.append({"reading": "base", "shared": shared, "name": "base"})
        return found

    def _anchor_dir(self, task: Task) -> SharedDir:
        key = digest(
            {
                "model": self.identity,
                "suite": self._scoring(self.suite.for_task(task.name)),
                "task": describe_task(task),
            }
        )
        return self.suite_dir.shared(task.name, key)

    def _anchor_name(self, reading: str, split: Split, seed: int) -> str:
        return f"{reading}-{split}-s{0 if self.suite.eval_temperature == 0 else seed}"

    def _retention_dir(self, name: str) -> SharedDir:
        depends = {"model": self.identity, "suite": self._scoring(self.suite), "retention": name}
        own = task_scores.retention_sampling(self.suite)
        length = own.max_completion_length
        # What older suites share keeps its name: they decode all alike.
        if own != dataclasses.replace(
            task_scores.eval_sampling(self.suite), max_completion_length=length
        ):
            depends["sampling"] = dataclasses.asdict(own)
        return self.suite_dir.shared(f"retention-{name}", digest(depends))

    def _anchor(self, reading: str, task: Task, split: Split, seed: int) -> Measured:
        name = self._anchor_name(reading, split, seed)
        shared = self._anchor_dir(task)
        loaded = self.larger() if reading == "ceiling-larger" else self.initial

        def compute() -> Measured:
            with self.console.phase(f"{task.name}: {reading} on {split}", None, "samples"):
                return self.score(
                    task,
                    split,
                    loaded,
                    self.engine(loaded),
                    seed,
                    told=reading != "base",
                    final=split == "test",
                )

        return self._shared(shared, name, compute)

    def retention(self, loaded: LoadedModel, engine: Engine) -> list[Measured]:
        """Every retention task of the suite, with the same template and decoding as ever."""
        return [self._retain(name, loaded, engine) for name in self.suite.retention]

    def base_retention(self) -> list[Measured]:
        """Retention of the student before training, scored once and shared."""
        found = []
        for name in self.suite.retention:

            def compute(name: str = name) -> Measured:
                with self.console.phase(f"retention {name}: base", None, "prompts"):
                    return self._retain(name, self.initial, self.engine(self.initial))

            found.append(self._shared(self._retention_dir(name), "base", compute))
        return found

    def _retain(self, name: str, loaded: LoadedModel, engine: Engine) -> Measured:
        suite = self.suite
        if name in registry.plugin_files(registry.TASKS_PACKAGE):
            task = registry.task(name, history=suite.history, data_dir=suite.data_dir)
            items = suite.retention_items or len(task.examples("test"))
            scored = task_scores.evaluate(
                task,
                "test",
                items=items,
                samples=1,
                told=False,
                loaded=loaded,
                engine=engine,
                suite=suite,
                seed=0,
            )
            return _measured(name, "retention", scored)
        return self._lm_eval(name, loaded, engine)

    def _lm_eval(self, name: str, loaded: LoadedModel, engine: Engine) -> Measured:
        suite = self.suite
        decoding = task_scores.retention_sampling(suite)
        with adapters.active(loaded):  # tasks that score given answers compute with the module
            result = retention.measure(
                loaded.model,
                loaded.tokenizer,
                [name],
                decoding=decoding,
                limit=suite.retention_items,
                data_dir=suite.data_dir,
                seed=0,
                engine=engine,
            )[0]
        primary = _primary(result.metrics)
        metric, _, chosen = primary.partition(",")  # lm-eval's own filters make several scores
        by_instruction = {
            f"{kind} strict": values["strict"] for kind, values in result.by_instruction.items()
        }
        samples = tuple(
            {
                "task": name,
                "split": "retention",
                "example_id": sample["id"],
                "sample": 0,
                "score": float(sample["values"][metric]),
                "outcome": _outcome(float(sample["values"][metric]), sample.get("finish")),
                **sample,
            }
            for sample in result.samples
            if sample["filter"] == (chosen or "none")
        )
        return Measured(
            task=name,
            split="retention",
            primary=primary,
            metrics={**result.metrics, **by_instruction},
            n=result.n,
            n_unscored=0,
            protocol_hash=digest(
                {
                    "protocol": result.protocol,
                    "task": result.task_hash,
                    "lm_eval": result.lm_eval_version,
                }
            ),
            samples=samples,
        )

    def _scoring(self, suite: Suite) -> dict[str, Any]:
        """The settings that scores of a fixed model depend on."""
        return {
            "sampling": task_scores.eval_sampling(suite).__dict__,
            "dev_items": suite.dev_items,
            "test_items": suite.test_items,
            "eval_samples": suite.eval_samples,
            "retention_items": suite.retention_items,
            "retention_max_completion_length": suite.retention_max_completion_length,
            "history": suite.history,
            "max_prompt_length": suite.max_prompt_length,
            "overlong": suite.overlong,
            "teacher_model": self.larger_identity,
        }

    def _shared(self, shared: SharedDir, name: str, compute: Any) -> Measured:
        """A score from memory, from the shared folder, or computed and stored there."""
        key = (shared.path.name, name)
        if key not in self._measured:
            if not shared.has(name):
                shared.put(name, _to_rows(compute()))
            self._measured[key] = _from_rows(shared.get(name))
        return self._measured[key]

    # --- the told teacher's replies ------------------------------------------------------------

    def told_trajectories(
        self, task: Task, seed: int, step: int, larger: bool
    ) -> list[Trajectory | Skipped]:
        """The told teacher's replies of one step; the whole run's are written once and stored."""
        suite = self.suite.for_task(task.name)
        key = digest(
            {
                "model": self.larger_identity if larger else self.identity,
                "task": describe_task(task),
                "sampling": sampling.write_sampling(suite).__dict__,
                "seed": seed,
                "batch": [suite.batch_size, suite.num_generations],
                "lengths": [suite.max_prompt_length, suite.overlong],
            }
        )
        shared = self.suite_dir.shared(f"told-{task.name}", key)
        if key not in self._told:
            self._told = {key: []}  # one seed's at a time: they can be large
        have = self._told[key]
        while len(have) <= step:
            have.append(self._told_step(suite, shared, task, seed, len(have), larger))
        return have[step]

    def _told_step(
        self, suite: Suite, shared: SharedDir, task: Task, seed: int, step: int, larger: bool
    ) -> list[Trajectory | Skipped]:
        name = f"step_{step + 1:06d}"
        if not shared.has(name):
            loaded = self.larger() if larger else self.initial
            slots = sampling.schedule(task, suite, seed, step)
            written = sampling.write(
                slots, task, suite, seed, loaded, self.engine(loaded), task.contexts()
            )
            shared.put(name, [sampling.row_of(t) for t in written])
        return [sampling.of_row(row) for row in shared.get(name)]

    def peak_memory(self) -> int:
        """Peak bytes of this process so far (of the GPU where there is one)."""
        if self.initial.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.initial.device))
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _primary(metrics: Mapping[str, float]) -> str:
    """The metric that tables show: IFEval's prompt-level strict accuracy, else the first."""
    return next(
        (m for m in metrics if m.startswith("prompt_level_strict_acc")), next(iter(metrics))
    )


def _outcome(score: float, finish: str | None) -> str:
    """As for our own tasks: truncated is told apart from wrong."""
    if score == 1.0:
        return "correct"
    return "truncated" if finish == "length" else "wrong"


def _measured(task: str, split: str, scored: task_scores.Scored) -> Measured:
    samples = tuple({**row, "score": task_scores.score_of(row)} for row in scored.samples)
    return Measured(
        task=task,
        split=split,
        primary="accuracy",
        metrics=scored.metrics,
        n=scored.n,
        n_unscored=scored.n_unscored,
        protocol_hash=scored.protocol_hash,
        samples=samples,
    )


def _to_rows(measured: Measured) -> list[dict[str, Any]]:
    head = {k: v for k, v in dataclasses.asdict(measured).items() if k != "samples"}
    return [{"measured": head}, *(dict(sample) for sample in measured.samples)]


def _from_rows(rows: Sequence[Mapping[str, Any]]) -> Measured:
    return Measured(**rows[0]["measured"], samples=tuple(rows[1:]))
