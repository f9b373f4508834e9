"""Runs one cell: train by a method, score along the way, choose on dev, touch test once, seal."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from opcd_bench.config.suite import Suite
from opcd_bench.distillation import sampling, trainer
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.method import Method
from opcd_bench.distillation.trainer import EmaTeacher, TrainingCore
from opcd_bench.envs.task import Task
from opcd_bench.errors import CellFailed, ConfigError
from opcd_bench.models import card, loading
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.progress import Reporter
from opcd_bench.rollout.engine import Engine
from opcd_bench.rollout.trajectory import Skipped, Trajectory
from opcd_bench.runner.grid import Cell
from opcd_bench.runner.out_of_memory import explain_out_of_memory
from opcd_bench.runner.resources import Measured, Workbench
from opcd_bench.runner.tracker import Tracker
from opcd_bench.seeds import seed_of
from opcd_bench.store.run_dir import RunDir

COUNTERS = ("tokens_written", "teacher_tokens_scored", "student_tokens_trained", "skipped_steps")


@dataclass(frozen=True)
class Choice:
    """The checkpoint whose test score is the cell's, and the rule that chose it."""

    step: int
    rule: str


def choose_step(suite: Suite, dev: Mapping[int, float | None]) -> Choice:
    """The step to be scored on test: by dev accuracy, or fixed in advance.

    ``dev``: evaluated step -> dev accuracy. Ties go to the earliest step, and step 0 (the untrained
    student) takes part: a method that never beats it on dev is reported at step 0. Raises
    CellFailed where dev was never scored.
    """
    if suite.choose == "last":
        return Choice(suite.max_steps, "the last step, fixed in advance")
    if suite.choose != "dev":
        return Choice(int(suite.choose), f"step {suite.choose}, fixed in advance")
    scored = {step: value for step, value in dev.items() if value is not None}
    if not scored:
        raise CellFailed("dev was never scored, so no checkpoint can be chosen on it")
    best = max(scored.values())
    return Choice(
        min(step for step, value in scored.items() if value == best),
        "highest dev accuracy, the earliest step of equals",
    )


class CellRun:
    """One cell in its run directory, from wherever an earlier attempt left it."""

    def __init__(
        self,
        cell: Cell,
        method: Method,
        task: Task,
        bench: Workbench,
        run_dir: RunDir,
        console: Reporter,
        tracker: Tracker,
    ) -> None:
        self.cell, self.method, self.task = cell, method, task
        self.bench, self.run_dir, self.console, self.tracker = bench, run_dir, console, tracker
        self.suite: Suite = bench.suite.for_task(task.name)
        self.student: LoadedModel = bench.fresh_student(cell.seed)
        self.engine: Engine = bench.engine(self.student)
        self.listed = bench.listed_teacher(method)
        self.loss = bench.serving.loss_of(method, self.listed)
        self.teacher = self._teacher() if self.listed is None else None
        self.ema = (
            EmaTeacher(self.teacher, method.teacher.rate)
            if self.teacher is not None and method.teacher.rate is not None
            else None
        )
        self.core = TrainingCore(self.student, self.suite, cell.learning_rate)
        self.counters = dict.fromkeys(COUNTERS, 0)

    def run(self) -> None:
        """Everything from the last checkpoint to the seal."""
        step = self._resume()
        last = self.suite.max_steps
        with self.console.phase(self._title(), last, "steps") as phase:
            phase.advance(step)
            if step == 0 and not self._evaluated(0):
                self._evaluate(0)
            while step < last:
                divergence = self._train(step)
                step += 1
                if step in self.suite.evaluated_steps():
                    self._evaluate(step)
                if self._checkpoint_due(step):
                    self._checkpoint(step)
                phase.advance(1, divergence=divergence)
        self._finish()

    def rehearse(self, steps: int) -> None:
        """``steps`` optimiser steps, and nothing else: no score, no checkpoint, no seal."""
        for step in range(steps):
            self._train(step)

    def _title(self) -> str:
        cell = self.cell
        return f"{cell.task} {cell.method} lr {cell.learning_rate:g} seed {cell.seed}"

    # --- one optimiser step -------------------------------------------------------------------

    def _train(self, step: int) -> float:
        """Write, score, step; appends one row to train.jsonl and one to timing.jsonl."""
        began = time.perf_counter()
        slots = sampling.schedule(self.task, self.suite, self.cell.seed, step)
        told = sampling.told_by_teacher(self.method.writer, slots, self.task, self.cell.seed)
        with explain_out_of_memory("writing", self.suite):
            trajectories = self._trajectories(slots, told, step)
        batch = sampling.pairs_of(
            trajectories,
            [slot.example for slot in slots],
            self.method.teacher,
            self.task,
            self.suite,
            self.student,
            seed=self.cell.seed,
            told_by=self._told_by(),
            on_policy=[not by_teacher for by_teacher in told],
        )
        if not batch.pairs:
            raise CellFailed(
                f"step {step + 1}: no reply was left to train on ({batch.overlong} too long, "
                f"{batch.failed} failed)"
            )
        written = time.perf_counter()
        shuffled = self.method.teacher.rows == "shuffled"
        with explain_out_of_memory("training", self.suite):
            report = self.core.step(
                batch.pairs,
                self.loss,
                self.listed or self.teacher,
                shuffle=seed_of("rows", self.task.name, self.cell.seed, step) if shuffled else None,
            )
        if self.ema is not None and not report.skipped:
            self.ema.follow(self.student)
        done = [t for t in trajectories if isinstance(t, Trajectory)]
        turns = [turn for t in done for turn in t.turns]
        own = [t for t, by_teacher in zip(trajectories, told, strict=True) if not by_teacher]
        self.counters["tokens_written"] += sum(
            len(turn.reply.ids) for t in own if isinstance(t, Trajectory) for turn in t.turns
        )
        self.counters["student_tokens_trained"] += report.tokens
        if self.listed is not None or self.teacher is not None:
            self.counters["teacher_tokens_scored"] += report.tokens
        self.counters["skipped_steps"] = self.core.skipped
        graded = [
            t.grade.score or 0.0 for t in done if self.task.train_graded and t.outcome != "failed"
        ]
        row = {
            "step": step + 1,
            "divergence": report.divergence,
            "divergence_kind": report.divergence_kind,
            "grad_norm": report.grad_norm,
            "learning_rate": report.learning_rate,
            "skipped": report.skipped,
            "examples": self.suite.batch_size,
            "replies": report.replies,
            "tokens": report.tokens,
            "overlong": batch.overlong,
            "failed": batch.failed,
            "reply_length": report.tokens / report.replies,
            "eos_rate": sum(turn.reply.finish == "stop" for turn in turns) / max(len(turns), 1),
            "written_accuracy": sum(graded) / len(graded) if graded else None,
            **report.metrics,
            **self.counters,
        }
        self.run_dir.train(row)
        self.run_dir.timing(
            {
                "step": step + 1,
                "seconds_written": written - began,
                "seconds_trained": time.perf_counter() - written,
                **{f"seconds_{phase}": seconds for phase, seconds in report.seconds.items()},
                "peak_memory_bytes": self.bench.peak_memory(),
            }
        )
        self.tracker.log(row, step + 1)
        return report.divergence

    def _trajectories(
        self, slots: Sequence[sampling.Slot], told: Sequence[bool], step: int
    ) -> list[Trajectory | Skipped]:
        """The replies of a step: stored ones of the told teacher, fresh ones of the student."""
        writer = self.method.writer
        if writer.kind == "stored":
            return list(self._stored(slots))
        found: list[Trajectory | Skipped | None] = [None] * len(slots)
        if any(told):
            stored = self.bench.told_trajectories(
                self.task, self.cell.seed, step, self.method.teacher.weights == "larger"
            )
            for place, by_teacher in enumerate(told):
                if by_teacher:
                    found[place] = stored[place]
        own = [place for place, by_teacher in enumerate(told) if not by_teacher]
        if own:
            fresh = sampling.write(
                [slots[place] for place in own],
                self.task,
                self.suite,
                self.cell.seed,
                self.student,
                self.engine,
                None,
            )
            for place, trajectory in zip(own, fresh, strict=True):
                found[place] = trajectory
        return [trajectory for trajectory in found if trajectory is not None]

    @cached_property
    def _stored_by_example(self) -> dict[str, Trajectory]:
        """The stored writer's trajectories: its file is read once a run, not once a step."""
        assert self.method.writer.path is not None
        return {t.example_id: t for t in sampling.read_stored(self.method.writer.path)}

    def _stored(self, slots: Sequence[sampling.Slot]) -> list[Trajectory]:
        by_example = self._stored_by_example
        missing = [s.example.id for s in slots if s.example.id not in by_example]
        if missing:
            raise CellFailed(
                f"{self.method.writer.path} has no trajectory of example {missing[0]} "
                f"(and {len(missing) - 1} more of this step)"
            )
        return [by_example[slot.example.id] for slot in slots]

    def _told_by(self) -> PromptFormat:
        """Whose chat template and window the told prompts meet."""
        if self.listed is None:
            return self.teacher or self.student
        larger = self.method.teacher.weights == "larger"
        reader = self.bench.larger() if larger else self.student
        # vLLM scores a sequence by what would follow it, which takes a place of its window.
        room = min(reader.max_length, self.listed.max_length - 1)
        return dataclasses.replace(reader, max_length=room)

    def _teacher(self) -> LoadedModel | None:
        loss, teacher = self.method.loss, self.method.teacher
        if isinstance(loss, Divergence) and loss.teacher_needs == "none":
            return None
        if teacher.weights == "live":
            return self.student
        if teacher.weights == "larger":
            larger = self.bench.larger()
            if not isinstance(larger, LoadedModel):
                raise ConfigError(
                    f"method {self.method.name!r}: its larger teacher is served (teacher_url), "
                    "so teacher_engine = 'vllm' goes with it"
                )
            return larger
        if teacher.weights == "ema":
            return loading.copy_frozen(self.bench.initial)
        return self.bench.initial

    # --- scoring --------------------------------------------------------------------------------

    def _evaluate(self, step: int) -> None:
        """Dev, and retention if the suite says so, into evals.jsonl. Never reads test."""
        base = step == 0
        with explain_out_of_memory("scoring", self.suite):
            dev = (
                self.bench.base(self.task, "dev", self.cell.seed)
                if base
                else self.bench.score(self.task, "dev", self.student, self.engine, self.cell.seed)
            )
            self._record(step, dev)
            if self.suite.eval_retention:
                for measured in self._retention(base):
                    self._record(step, measured)

    def _retention(self, base: bool) -> Sequence[Measured]:
        if base:
            return self.bench.base_retention()
        return self.bench.retention(self.student, self.engine)

    def _record(self, step: int, measured: Measured, *, final: bool = False) -> None:
        for metric, value in measured.metrics.items():
            self.run_dir.eval(
                {
                    "step": step,
                    "task": measured.task,
                    "split": measured.split,
                    "metric": metric,
                    "value": value,
                    "primary": metric == measured.primary,
                    "n": measured.n,
                    "n_unscored": measured.n_unscored,
                    "protocol_hash": measured.protocol_hash,
                    "final": final,
                }
            )
        if not final:
            scores = [sample["score"] for sample in measured.samples]
            self.run_dir.samples(
                f"scores-{measured.task}-step_{step:06d}",
                [{"task": measured.task, "split": measured.split, "scores": scores}],
            )

    def _evaluated(self, step: int) -> bool:
        return any(row["step"] == step for row in self.run_dir.read("evals"))

    def _dev_by_step(self) -> dict[int, float | None]:
        return {
            row["step"]: row["value"]
            for row in self.run_dir.read("evals")
            if row["split"] == "dev" and row["task"] == self.task.name and row["primary"]
        }

    # --- checkpoints ----------------------------------------------------------------------------

    def _checkpoint_due(self, step: int) -> bool:
        return (
            step % self.suite.save_steps == 0
            or step in self.suite.evaluated_steps()
            or step == self.suite.max_steps
        )

    def _checkpoint(self, step: int) -> None:
        with self.run_dir.checkpoint(step) as folder:
            trainer.save_state(self.core, folder)
            text = card.card(self.cell.config, self.run_dir.read("evals"), step, self.cell.name)
            (folder / trainer.MODEL / card.CARD).write_text(text, encoding="utf-8")
            if self.ema is not None:
                trainer.save_teacher(self.ema.teacher, folder)
        if self.suite.keep_checkpoints != "all":
            keep = {step}
            if self.suite.choose == "dev":
                keep.add(choose_step(self.suite, self._dev_by_step()).step)
            elif self.suite.choose != "last":
                keep.add(int(self.suite.choose))
            self.run_dir.drop_checkpoints(keep)

    def _resume(self) -> int:
        """Load the last good checkpoint and drop the rows past it; 0 where there is none."""
        checkpoint = self.run_dir.last_checkpoint()
        step = 0 if checkpoint is None else checkpoint.step
        self.run_dir.rewind(step if checkpoint is not None else -1)
        if checkpoint is None:
            return 0
        trainer.load_state(self.core, checkpoint.path)
        if self.ema is not None:
            trainer.load_teacher(self.ema.teacher, checkpoint.path)
        rows = self.run_dir.read("train")
        if rows:
            self.counters = {key: rows[-1][key] for key in COUNTERS}
        self.run_dir.event("loaded", step=step)
        return step

    # --- the end --------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Choose on dev, then score test once, store every sample, and seal."""
        choice = choose_step(self.suite, self._dev_by_step())
        self.run_dir.event("chosen", step=choice.step, rule=choice.rule)
        self._load_weights(choice.step)
        with (
            self.console.phase(f"{self._title()}: test", None, "samples"),
            explain_out_of_memory("scoring", self.suite),
        ):
            test = self.bench.score(
                self.task, "test", self.student, self.engine, self.cell.seed, final=True
            )
            self._record(choice.step, test, final=True)
            self.run_dir.samples("test", test.samples)
            for measured in self._retention(choice.step == 0):
                self._record(choice.step, measured, final=True)
                self.run_dir.samples(f"retention-{measured.task}", measured.samples)
            anchors = self.bench.anchors(self.task, self.cell.seed)
        kept = {"none": (), "chosen": {choice.step} - {0}, "all": None}
        self.run_dir.seal(
            {
                "chosen_step": choice.step,
                "rule": choice.rule,
                "anchors": anchors,
                **self.counters,
            },
            keep=kept[self.suite.keep_checkpoints],
        )

    def _load_weights(self, step: int) -> None:
        if step == self.suite.max_steps and self.core.step_count == step:
            return
        if step == 0:
            self.bench.restore(self.student)
            return
        trainer.load_state(self.core, self.run_dir.checkpoint_at(step).path)
