"""Scores that methods are compared with: base and ceiling, retention before; each measured once."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from opcd_bench.config import measures
from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Teacher
from opcd_bench.envs import readings
from opcd_bench.envs.task import PROBE, Probe, Split, Task, describe_task
from opcd_bench.errors import StoreError
from opcd_bench.evaluation import drift, held_out, retention, task_scores
from opcd_bench.evaluation.scores import Protocol, Score
from opcd_bench.hashing import digest
from opcd_bench.models import adapters, merged
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.progress import Reporter
from opcd_bench.rollout.engine import Engine
from opcd_bench.runner import registry, shared_questions
from opcd_bench.runner.adapted import AdaptedTeachers
from opcd_bench.runner.models import SuiteModels
from opcd_bench.runner.protocols import Protocols
from opcd_bench.store.run_reader import RunReader, sealed
from opcd_bench.store.suite_dir import SharedDir, SuiteDir


class References:
    """Scores models for a suite, and keeps those that its cells share in ``shared/``."""

    def __init__(
        self,
        suite: Suite,
        suite_dir: SuiteDir,
        models: SuiteModels,
        console: Reporter,
        adapted: AdaptedTeachers,
    ) -> None:
        self.adapted = adapted
        self.suite, self.suite_dir, self.models, self.console = suite, suite_dir, models, console
        self._measured: dict[tuple[str, ...], Score] = {}
        self.protocols = Protocols(suite, models)
        self._placed: dict[tuple[str, str], SharedDir] = {}
        self._anchors: dict[Path, set[tuple[str, str]]] = {}  # of finished runs

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
        adapted: Teacher | None = None,
    ) -> Score:
        """Score a model on a split: ``eval_samples`` samples an example on test, one on dev.

        ``adapted``: the adapted teacher that it is.
        """
        if (split == "test") != final:
            raise AssertionError("test is scored once, after the choice; nothing else may read it")
        suite = self.suite.for_task(task.name)
        return task_scores.evaluate(
            task,
            task_scores.asked(suite, split),
            told=told,
            loaded=loaded,
            engine=engine,
            suite=suite,
            seed=_drawn(suite, seed, adapted),
        )

    def probe(
        self,
        task: Task,
        probe: Probe,
        loaded: PromptFormat,
        engine: Engine,
        seed: int,
        *,
        told: bool = False,
    ) -> Score:
        """Score a model on a further test set of a task; on test day only."""
        suite = self.suite.for_task(task.name)
        return task_scores.evaluate_probe(
            task,
            probe,
            told=told,
            loaded=loaded,
            engine=engine,
            suite=suite,
            seed=_drawn(suite, seed),
        )

    def base(self, task: Task, split: Split, seed: int) -> Score:
        """The student before training, plain: once per task, split and decoding seed."""
        return self._reference("base", task, split, seed)

    def of_cell(self, task: Task, seed: int, described: Mapping[str, Any]) -> list[dict[str, str]]:
        """Base and ceilings on test and base retention, scored once; where each is stored."""
        found = self.anchors(task, seed, described)
        self.base_retention()
        for name in self.suite.retention:
            shared = self.retention_folder(name).path.name
            found.append({"reading": "base", "shared": shared, "name": "base"})
        return found

    def anchors(self, task: Task, seed: int, described: Mapping[str, Any]) -> list[dict[str, str]]:
        """Base and ceilings on test, scored once; where each is stored.

        Beside the shared context's ceiling that of what the method distils (``described``), where
        the test examples have it.
        """
        larger = self.suite.teacher_model is not None
        teacher = Teacher(**described["teacher"])
        usual = ("base", "ceiling", *["ceiling-larger"] * larger)
        anchors = [(name, task) for name in usual]
        reads, own = readings.read_by(described), readings.ceiling_of(described)
        if own not in usual and not readings.lacking(reads, task, "test"):
            anchors.append((own, readings.telling(task, reads)))
        found = []
        for reading, told in anchors:
            by = teacher if reading == own and teacher.by is not None else None
            self._reference(reading, told, "test", seed, teacher=by)
            shared, name = self._where(reading, told, "test", seed, by)
            found.append({"reading": reading, "shared": shared.path.name, "name": name})
        for probe in task_scores.further_sets(task, self.suite.for_task(task.name)):
            # A told teacher tells nothing new where the model under test is told something too.
            for reading in usual if probe.reads == "nothing" else ["base"]:
                shared, name = self._probed(reading, task, probe, seed)
                found.append({"reading": reading, "shared": shared.path.name, "name": name})
        return found

    def folder(self, task: Task, seed: int, adapted: Teacher | None = None) -> SharedDir:
        """Where a task's base and ceiling samples are shared: of an adapted teacher its own."""
        key = digest(
            {
                "model": (
                    self.models.identity
                    if adapted is None
                    else self.adapted.identity(adapted, task, seed)
                ),
                "suite": self.scoring(self.suite.for_task(task.name)),
                "task": describe_task(task),
            }
        )
        return self.suite_dir.shared(task.name, key)

    def _name(self, reading: str, split: str, seed: int, adapted: Teacher | None = None) -> str:
        return f"{reading}-{split}-s{_drawn(self.suite, seed, adapted)}"

    def _where(
        self, reading: str, task: Task, split: Split, seed: int, adapted: Teacher | None = None
    ) -> tuple[SharedDir, str]:
        """Where a fixed model's score on a split lies or will, and under which name."""
        name = self._name(reading, split, seed, adapted)
        loaded = self._reader(reading)
        return self._place(
            self.folder(task, seed, adapted),
            name,
            lambda: self.protocols.scored(task, split, loaded),
        ), name

    def _place(
        self, shared: SharedDir, name: str, under: Callable[[], Protocol | None]
    ) -> SharedDir:
        """Where the rows lie, or will, that a score of now, ``under`` a protocol, is compared with.

        In ``shared``, as ever; beside it where those there are of another protocol, unless finished
        runs were measured against them, which a run under another one could not stand beside.
        Documents are read only where this depends on them.
        """
        key = (shared.path.name, name)
        if key in self._placed:
            return self._placed[key]
        if not shared.has(name):
            return shared
        if not self._read_by_runs(shared, name) and (now := under()) is not None:
            head = shared.get(name)[0]["measured"]
            if not now.is_of(head["primary"], head["protocol_hash"]):
                task, _, of = shared.path.name.rpartition("--")
                shared = self.suite_dir.shared(task, digest({"key": of, "protocol": now.hash}))
        self._placed[key] = shared
        return shared

    def _read_by_runs(self, shared: SharedDir, name: str) -> bool:
        """Whether finished runs of the suite were measured against stored rows.

        Not those that are damaged, or were sealed without saying against which.
        """
        runs = filter(sealed, self.suite_dir.runs())
        return any((shared.path.name, name) in self._measured_against(run) for run in runs)

    def _measured_against(self, run: Path) -> set[tuple[str, str]]:
        """(folder, name) of what a finished run was measured against; empty where it is damaged."""
        if run not in self._anchors:
            with contextlib.suppress(StoreError):
                anchors = RunReader(run).summary.get("anchors", [])
                self._anchors[run] = {(one["shared"], one["name"]) for one in anchors}
        return self._anchors.get(run, set())

    def other_teacher(
        self, run: Path, described: Mapping[str, Any], teacher: Teacher, task: Task, seed: int
    ) -> bool:
        """Whether an adapted teacher had other weights when a finished run of a method learnt.

        Its ceiling lies in a folder that is known by them. False where that cannot be seen: test
        has no such ceiling, or the base lies elsewhere too, so that more than a teacher differs.
        """
        own, reads = Teacher(**described["teacher"]), readings.read_by(described)
        other = (own.by, own.by_reads) != (teacher.by, teacher.by_reads)
        if other or readings.lacking(reads, task, "test"):
            return False
        stored = {name: shared for shared, name in self._measured_against(run)}
        told, reading = readings.telling(task, reads), readings.ceiling_of(described)
        base, base_name = self._where("base", task, "test", seed)
        if stored.get(base_name) != base.path.name:
            return False
        ceiling, name = self._where(reading, told, "test", seed, teacher)
        return name in stored and stored[name] != ceiling.path.name

    def moved(self, task: Task, seed: int) -> dict[str, str]:
        """Where the base's test lies, if not where `folder` says: for what is keyed beside it."""
        shared, _ = self._where("base", task, "test", seed)
        first = self.folder(task, seed).path.name
        return {} if shared.path.name == first else {"base": shared.path.name}

    def retention_folder(self, name: str) -> SharedDir:
        """Where a retention task's samples before training are shared."""
        shared = self._first_retention_folder(name)
        return self._place(shared, "base", lambda: self.protocols.retention(name))

    def _first_retention_folder(self, name: str) -> SharedDir:
        """Where they are looked for first."""
        depends = {
            "model": self.models.identity,
            "suite": self.scoring(self.suite),
            "retention": name,
            **self._own_task(name),
        }
        if name == measures.DRIFT:
            depends["responses"] = list(self._responding())
            bases = [self.retention_folder(one).path.name for one in self._responding()]
            if bases != [self._first_retention_folder(one).path.name for one in self._responding()]:
                depends["bases"] = bases
        own = task_scores.retention_sampling(self.suite)
        length = own.max_completion_length
        # What older suites share keeps its name: they decode all alike.
        if own != dataclasses.replace(
            task_scores.eval_sampling(self.suite), max_completion_length=length
        ):
            depends["sampling"] = dataclasses.asdict(own)
        kind = measures.NATS if measures.is_measure(name) else "retention"
        return self.suite_dir.shared(f"{kind}-{name}", digest(depends))

    def _own_task(self, name: str) -> dict[str, Any]:
        """What the samples of a retention task of ours depend on besides its name.

        A first version without options depends on nothing, as ever.
        """
        if name not in shared_questions.own(self.suite):
            return {}
        task = shared_questions.own_task(self.suite, name)
        more = {"version": task.version, "options": dict(task.options()), **task.source()}
        return {} if more == {"version": 1, "options": {}} else {"task": more}

    def check_retention(self, tasks: Mapping[str, Task]) -> None:
        """Refuse, before any model answers, what retention would refuse hours later.

        Documents that cannot be read, prompts that do not fit (DataError), and those that are the
        tasks' own (ConfigError; a few are warned of). What is stored fitted once, and is not asked.
        """
        suite = self.suite
        asked = [
            name
            for name in registry.foreign_retention(suite)
            if not self.retention_folder(name).has("base")
        ]
        documents = self._fitting(asked) if asked else {}
        own = shared_questions.own_documents(suite)
        every = {**own, **shared_questions.measured_documents(suite), **documents}
        for warning in shared_questions.warnings(tasks, every):
            self.console.warn(warning)

    def _fitting(self, asked: list[str]) -> dict[str, list[dict[str, Any]]]:
        """The documents of lm-eval tasks, all of whose prompts fit the model."""
        suite = self.suite
        with self.models.whole(self.models.initial) as initial:  # which lm-eval looks at
            return retention.check_prompts(
                initial.model,
                initial.tokenizer,
                asked,
                decoding=task_scores.retention_sampling(suite),
                limit=suite.retention_items,
                data_dir=suite.data_dir,
            )

    def _reference(
        self,
        reading: str,
        task: Task,
        split: Split,
        seed: int,
        *,
        teacher: Teacher | None = None,
    ) -> Score:
        """``teacher``: the adapted one whose ceiling it is."""
        shared, name = self._where(reading, task, split, seed, teacher)
        loaded = self._reader(reading)
        if teacher is not None:
            loaded = self.adapted.of(teacher, task, seed)

        def compute() -> Score:
            with self.console.phase(f"{task.name}: {reading} on {split}", None, "samples") as phase:
                score = self.score(
                    task,
                    split,
                    loaded,
                    self.models.engine(loaded),
                    seed,
                    told=reading != "base",
                    final=split == "test",
                    adapted=teacher,
                )
                phase.advance(len(score.samples))
                return score

        return self._shared(shared, name, compute)

    def base_probe(self, task: Task, probe: Probe, seed: int) -> Score:
        """The student before training on a further test set, once per decoding seed."""
        shared, name = self._probed("base", task, probe, seed)
        return self._measured[shared.path.name, name]

    def _probed(self, reading: str, task: Task, probe: Probe, seed: int) -> tuple[SharedDir, str]:
        """Score a fixed model on a further test set, once; where its rows lie."""
        name = self._name(reading, f"{PROBE}_{probe.name}", seed)
        loaded = self._reader(reading)
        shared = self._place(
            self.folder(task, seed), name, lambda: self.protocols.probed(task, probe, loaded)
        )

        def compute() -> Score:
            told = reading != "base"
            title = f"{task.name}: {reading} on {probe.name}"
            with self.console.phase(title, None, "samples") as phase:
                engine = self.models.engine(loaded)
                score = self.probe(task, probe, loaded, engine, seed, told=told)
                phase.advance(len(score.samples))
                return score

        self._shared(shared, name, compute)
        return shared, name

    def _reader(self, reading: str) -> PromptFormat:
        larger = reading.startswith("ceiling-larger")
        return self.models.larger() if larger else self.models.initial

    def retention(self, loaded: LoadedModel, engine: Engine) -> list[Score]:
        """Every retention task of the suite, with the same template and decoding as ever.

        But for drift, which reads the base too: a published student may have its place.
        """
        names = [name for name in self.suite.retention if name != measures.DRIFT]
        return [self.retained(name, loaded, engine) for name in names]

    def drift(self, student: LoadedModel) -> Score:
        """How far a student in training has drifted; it is not published meanwhile."""
        with self.models.compared(student) as (base, loaded):
            return self._drift(base, loaded)

    def _drift(self, base: LoadedModel, loaded: LoadedModel) -> Score:
        self._assert_base()
        return drift.measure(base, loaded, self._base(measures.DRIFT))

    def _assert_base(self) -> None:
        if merged.is_merged(self.models.initial):
            raise AssertionError("the base is not there: its module holds a published student")

    def base_retention(self) -> list[Score]:
        """Retention of the student before training, scored once and shared."""
        return [self._base(name) for name in self.suite.retention]

    def _base(self, name: str) -> Score:
        base = self.models.initial

        def compute() -> Score:
            if name == measures.DRIFT:
                return drift.of_base(base, [self._base(other) for other in self._responding()])
            with self.console.phase(f"retention {name}: base", None, "prompts") as phase:
                with self.models.whole(base) as whole:
                    score = self.retained(name, whole, self.models.engine(base))
                phase.advance(len(score.samples))
                return score

        return self._shared(self.retention_folder(name), "base", compute)

    def _responding(self) -> list[str]:
        """The retention tasks whose replies by the base drift is measured on."""
        return [name for name in self.suite.retention if not measures.is_measure(name)]

    def retained(
        self, name: str, loaded: LoadedModel, engine: Engine, base: LoadedModel | None = None
    ) -> Score:
        """One retention task or measure of a model, not stored.

        ``base``: what drift is measured from, if not from the student before training as it is.
        """
        suite = self.suite
        if name == measures.DRIFT:
            with self.models.whole(self.models.initial) as own:
                return self._drift(own if base is None else base, loaded)
        if measures.is_measure(name):
            return held_out.measure(loaded, name, suite.data_dir)
        if name in shared_questions.own(suite):
            task = shared_questions.own_task(self.suite, name)
            scored = task_scores.evaluate(
                task,
                task_scores.asked_of_retention(suite, task),
                told=False,
                loaded=loaded,
                engine=engine,
                suite=suite,
                seed=0,
            )
            return dataclasses.replace(scored, split="retention")
        return self._lm_eval(name, loaded, engine)

    def _lm_eval(self, name: str, loaded: LoadedModel, engine: Engine) -> Score:
        suite = self.suite
        with adapters.active(loaded):  # tasks that score given answers compute with the module
            (score,) = retention.measure(
                loaded.model,
                loaded.tokenizer,
                [name],
                decoding=task_scores.retention_sampling(suite),
                limit=suite.retention_items,
                data_dir=suite.data_dir,
                seed=0,
                engine=engine,
                date=loaded.date,
            )
        return score

    def scoring(self, suite: Suite) -> dict[str, Any]:
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
            "teacher_model": self.models.larger_identity,
            **({} if suite.probe_items is None else {"probe_items": suite.probe_items}),
            **({"train_items": suite.train_items} if suite.train_items else {}),
        }

    def _shared(self, shared: SharedDir, name: str, compute: Callable[[], Score]) -> Score:
        """A score from memory, from the shared folder, or computed and stored there."""
        key = (shared.path.name, name)
        if key not in self._measured:
            if not shared.has(name):
                self._assert_base()
                shared.put(name, compute().to_rows())
            self._measured[key] = Score.from_rows(shared.get(name))
        return self._measured[key]


def _drawn(suite: Suite, seed: int, adapted: Teacher | None = None) -> int:
    """The seed of samples: greedy decoding has none, but an adapted teacher is of a seed."""
    return 0 if suite.eval_temperature == 0 and adapted is None else seed
