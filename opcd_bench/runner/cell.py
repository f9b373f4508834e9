"""Runs one cell: train by a method, score along the way, choose on dev, touch test once, seal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from opcd_bench.config.suite import Suite
from opcd_bench.distillation import checkpoint
from opcd_bench.distillation.method import Method
from opcd_bench.distillation.pairs import PairBatch, pairs_of
from opcd_bench.distillation.replies import ReplySampler, StepReplies
from opcd_bench.distillation.trainer import StepReport, TrainingCore
from opcd_bench.envs.task import Task
from opcd_bench.errors import CellFailed
from opcd_bench.models import card
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.progress import Reporter
from opcd_bench.rollout.engine import Engine
from opcd_bench.runner.cell_scores import CellScores
from opcd_bench.runner.grid import Cell
from opcd_bench.runner.out_of_memory import explain_out_of_memory
from opcd_bench.runner.resources import Resources
from opcd_bench.runner.tracker import Tracker
from opcd_bench.seeds import seed_of
from opcd_bench.store.checkpoints import MODEL
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
        resources: Resources,
        run_dir: RunDir,
        console: Reporter,
        tracker: Tracker,
    ) -> None:
        self.cell, self.method, self.task, self.resources = cell, method, task, resources
        self.run_dir, self.console, self.tracker = run_dir, console, tracker
        self.suite: Suite = resources.suite.for_task(task.name)
        self.student: LoadedModel = resources.models.fresh_student(cell.seed)
        self.engine: Engine = resources.models.engine(self.student)
        self.loss = resources.teachers.loss_of(method)
        self.teacher = resources.teachers.build(
            method, self.student, partial(seed_of, "rows", task.name, cell.seed)
        )
        self.replies = ReplySampler(
            method, task, self.suite, cell.seed, self.student, self.engine, resources.told_replies
        )
        self.core = TrainingCore(self.student, self.suite, cell.learning_rate)
        self.scores = CellScores(cell, task, resources, run_dir, self.student, self.engine)
        self.counters = dict.fromkeys(COUNTERS, 0)

    def run(self) -> None:
        """Everything from the last checkpoint to the seal."""
        step = self._resume()
        last = self.suite.max_steps
        with self.console.phase(self._title(), last, "steps", done=step) as phase:
            if step == 0 and not self.scores.evaluated(0):
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
        """Replies, pairs, step; appends one row to train.jsonl and one to timing.jsonl."""
        began = time.perf_counter()
        with explain_out_of_memory("writing", self.suite):
            replies = self.replies.of_step(step)
        batch = self._pairs(replies, step)
        written = time.perf_counter()
        with explain_out_of_memory("training", self.suite):
            report = self.core.step(batch.pairs, self.loss, self.teacher)
        self._count(replies, report)
        row = self._row(step, replies, batch, report)
        self.run_dir.train(row)
        self.run_dir.timing(
            {
                "step": step + 1,
                "seconds_written": written - began,
                "seconds_trained": time.perf_counter() - written,
                **{f"seconds_{phase}": seconds for phase, seconds in report.seconds.items()},
                "peak_memory_bytes": self.resources.peak_memory(),
            }
        )
        self.tracker.log(row, step + 1)
        return report.divergence

    def _pairs(self, replies: StepReplies, step: int) -> PairBatch:
        """What is trained on; CellFailed where no reply is left."""
        batch = pairs_of(
            replies.trajectories,
            [slot.example for slot in replies.slots],
            self.method.teacher,
            self.task,
            self.suite,
            self.student,
            seed=self.cell.seed,
            told_by=self.teacher.prompts,
            on_policy=[not told for told in replies.by_teacher],
        )
        if not batch.pairs:
            raise CellFailed(
                f"step {step + 1}: no response was left to train on ({batch.overlong} too long, "
                f"{batch.failed} failed)"
            )
        return batch

    def _count(self, replies: StepReplies, report: StepReport) -> None:
        """Add a step to what the run has cost so far."""
        self.counters["tokens_written"] += replies.sampled_tokens
        self.counters["student_tokens_trained"] += report.tokens
        self.counters["teacher_tokens_scored"] += report.tokens if self.teacher.scores else 0
        self.counters["skipped_steps"] = self.core.skipped

    def _row(
        self, step: int, replies: StepReplies, batch: PairBatch, report: StepReport
    ) -> dict[str, Any]:
        """The step's row in train.jsonl: what was trained on, what came of it, what it cost."""
        turns = [turn for trajectory in replies.finished for turn in trajectory.turns]
        graded = [
            trajectory.grade.score or 0.0
            for trajectory in replies.finished
            if self.task.train_graded and trajectory.outcome != "failed"
        ]
        return {
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

    def _evaluate(self, step: int) -> None:
        with explain_out_of_memory("scoring", self.suite):
            self.scores.on_the_way(step)

    # --- checkpoints ----------------------------------------------------------------------------

    def _checkpoint_due(self, step: int) -> bool:
        return (
            step % self.suite.save_steps == 0
            or step in self.suite.evaluated_steps()
            or step == self.suite.max_steps
        )

    def _checkpoint(self, step: int) -> None:
        with self.run_dir.checkpoint(step) as folder:
            checkpoint.save(self.core, self.teacher, folder)
            text = card.card(self.cell.config, self.run_dir.read("evals"), step, self.cell.name)
            (folder / MODEL / card.CARD).write_text(text, encoding="utf-8")
        if self.suite.keep_checkpoints != "all":
            keep = {step}
            if self.suite.choose == "dev":
                keep.add(choose_step(self.suite, self.scores.dev_by_step()).step)
            elif self.suite.choose != "last":
                keep.add(int(self.suite.choose))
            self.run_dir.drop_checkpoints(keep)

    def _resume(self) -> int:
        """Load the last good checkpoint and drop the rows past it; 0 where there is none."""
        last = self.run_dir.last_checkpoint()
        step = 0 if last is None else last.step
        self.run_dir.rewind(step if last is not None else -1)
        if last is None:
            return 0
        checkpoint.load(self.core, self.teacher, last.path)
        rows = self.run_dir.read("train")
        if rows:
            self.counters = {key: rows[-1][key] for key in COUNTERS}
        self.run_dir.event("loaded", step=step)
        return step

    # --- the end --------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Choose on dev, then score test once, store every sample, and seal."""
        choice = choose_step(self.suite, self.scores.dev_by_step())
        self.run_dir.event("chosen", step=choice.step, rule=choice.rule)
        self._load_weights(choice.step)
        with (
            self.console.phase(f"{self._title()}: test", None, "samples") as phase,
            explain_out_of_memory("scoring", self.suite),
        ):
            anchors, samples = self.scores.at_the_end(choice.step)
            phase.advance(samples)
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
            self.resources.models.restore(self.student)
            return
        checkpoint.load_student(self.core, self.run_dir.checkpoint_at(step).path)
