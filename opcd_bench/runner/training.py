"""The optimiser steps of a run: replies, pairs, rows and checkpoints, whatever becomes of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from opcd_bench.config.suite import Suite
from opcd_bench.distillation import text_health, trainer
from opcd_bench.distillation.advantages import advantages
from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
from opcd_bench.distillation.method import Method
from opcd_bench.distillation.pairs import PairBatch, pairs_of
from opcd_bench.distillation.replies import ReplySampler, StepReplies, ToldReplies
from opcd_bench.distillation.teachers.build import Teachers
from opcd_bench.distillation.text_health import Collapse
from opcd_bench.distillation.trainer import StepReport
from opcd_bench.envs.task import Task
from opcd_bench.errors import CellFailed, NonFiniteGradients
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.progress import Reporter
from opcd_bench.rollout.engine import Engine
from opcd_bench.runner.learner import Learner, Stage
from opcd_bench.runner.models import SuiteModels
from opcd_bench.runner.out_of_memory import explain_out_of_memory
from opcd_bench.runner.tracker import Tracker
from opcd_bench.store import checkpoints
from opcd_bench.store.checkpoints import Checkpoint
from opcd_bench.store.run_dir import RunDir

COUNTERS = ("tokens_written", "teacher_tokens_scored", "student_tokens_trained", "skipped_steps")


class Shared(Protocol):
    """What runs of a suite share, as training needs it."""

    suite: Suite
    models: SuiteModels
    teachers: Teachers
    told_replies: ToldReplies

    def peak_memory(self) -> int:
        """Peak bytes of this process so far."""
        ...


class Training:
    """One student trained by one method, in a run directory, from wherever it was left."""

    def __init__(
        self,
        method: Method,
        task: Task,
        seed: int,
        learning_rate: float,
        shared: Shared,
        run_dir: RunDir,
        tracker: Tracker,
    ) -> None:
        self.method, self.task, self.seed, self.shared = method, task, seed, shared
        self.run_dir, self.tracker = run_dir, tracker
        self.suite: Suite = shared.suite.for_task(task.name)
        self.learner = Learner(method, task, seed, learning_rate, shared)
        self.student: LoadedModel = self.learner.student
        self.engine: Engine = shared.models.engine(self.student)
        self.replies = [
            ReplySampler(
                stage.method, task, self.suite, seed, self.student, self.engine,
                shared.told_replies, range(stage.first, stage.last),
            )
            for stage in self.learner.stages
        ]  # fmt: skip
        self.counters = dict.fromkeys(COUNTERS, 0)
        self.collapsed: Collapse | None = None
        self._rows: list[dict[str, Any]] = []

    def resume(self, chosen: Callable[[int], int] = lambda step: 0) -> int:
        """Load the last checkpoint to go on from and drop the rows past it; 0 where there is none.

        ``chosen``: which step would be chosen of all up to one. What may be chosen in the end must
        be kept, or be made again: where it is gone, the run goes on from before it.
        """
        last = self._last(chosen)
        step = 0 if last is None else last.step
        self.run_dir.rewind(step if last is not None else -1)
        if last is None:
            return 0
        self.learner.load(step, last.path)
        rows = self.run_dir.read("train")
        if rows:
            self.counters = {key: rows[-1][key] for key in COUNTERS}
            self._rows, self.collapsed = rows, text_health.collapse(rows)
        self.run_dir.event("loaded", step=step)
        return step

    def _last(self, chosen: Callable[[int], int]) -> Checkpoint | None:
        kept = {one.step: one for one in self.run_dir.checkpoints()}
        step = max(kept, default=0)
        while step and (needed := chosen(step)) not in {0, *kept}:
            step = max((one for one in kept if one < needed), default=0)
        return checkpoints.checked(kept[step]) if step else None

    def save(self, step: int, folder: Path) -> None:
        """A resumable checkpoint after ``step`` steps, in an existing folder."""
        self.learner.save(step, folder)

    # --- what came of it ----------------------------------------------------------------------

    def look_at_skipped(self, title: str, console: Reporter) -> None:
        """Raise NonFiniteGradients where no step moved a weight; a warning where some did not."""
        skipped, steps = self.learner.core.skipped, self.suite.max_steps
        if skipped == steps > 0:
            raise NonFiniteGradients(
                f"{title}: the gradient was not finite in any of the {steps} optimiser steps, so "
                f"nothing was trained; {trainer.MENDS}"
            )
        if skipped:
            console.warn(
                f"{title}: the gradient was not finite in {skipped} of {steps} optimiser steps, "
                "which changed nothing (skipped in train.jsonl); the run counts as it is"
            )

    def collapse_at(self, step: int, title: str, console: Reporter) -> dict[str, int]:
        """What a phase's line says of collapsed responses; a warning when it shows."""
        found = self.collapsed
        if found is None:
            return {}
        if found.step == step:
            console.warn(
                f"{title}: the responses have collapsed: {found}. The run goes on, and what it "
                "trains counts; look at its responses before you trust it"
            )
        return {"collapsed": found.step}

    # --- one optimiser step -------------------------------------------------------------------

    def step(self, step: int) -> float:
        """Replies, pairs, step; appends one row to train.jsonl and one to timing.jsonl."""
        began, stage = time.perf_counter(), self.learner.stage_at(step)
        place = self.learner.stages.index(stage)
        with explain_out_of_memory("writing", self.suite):
            replies = self.replies[place].of_step(step)
        batch = self._pairs(stage, replies, step)
        written = time.perf_counter()
        with explain_out_of_memory("training", self.suite):
            report = self.learner.step(step, batch.pairs)
        self._count(stage, replies, report)
        row = self._row(step, place, replies, batch, report)
        self.run_dir.train(row)
        self._watch(row)
        self.run_dir.timing(
            {
                "step": step + 1,
                "seconds_written": written - began,
                "seconds_trained": time.perf_counter() - written,
                **{f"seconds_{phase}": seconds for phase, seconds in report.seconds.items()},
                "peak_memory_bytes": self.shared.peak_memory(),
            }
        )
        self.tracker.log(row, step + 1)
        return report.divergence

    def _watch(self, row: dict[str, Any]) -> None:
        """See whether the responses have collapsed; an event the first time."""
        self._rows.append(row)
        if self.collapsed is None and (found := text_health.newest(self._rows)) is not None:
            self.collapsed = found
            self.run_dir.event("collapsed", **asdict(found))

    def _pairs(self, stage: Stage, replies: StepReplies, step: int) -> PairBatch:
        """What is trained on; CellFailed where no reply is left."""
        worth = None
        if isinstance(stage.loss, PolicyGradient):
            worth = advantages(stage.loss, replies.trajectories)
        batch = pairs_of(
            replies.trajectories,
            [slot.example for slot in replies.slots],
            stage.method.teacher,
            self.task,
            self.suite,
            self.student,
            seed=self.seed,
            told_by=stage.teacher.prompts,
            on_policy=[not told for told in replies.by_teacher],
            advantages=worth,
        )
        if not batch.pairs:
            raise CellFailed(
                f"step {step + 1}: no response was left to train on ({batch.overlong} too long, "
                f"{batch.failed} failed{_first_failure(replies)})"
            )
        return batch

    def _count(self, stage: Stage, replies: StepReplies, report: StepReport) -> None:
        """Add a step to what the run has cost so far."""
        self.counters["tokens_written"] += replies.sampled_tokens
        self.counters["student_tokens_trained"] += report.tokens
        self.counters["teacher_tokens_scored"] += report.tokens if stage.teacher.scores else 0
        self.counters["skipped_steps"] = self.learner.core.skipped

    def _row(
        self,
        step: int,
        stage: int,
        replies: StepReplies,
        batch: PairBatch,
        report: StepReport,
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
            **({"stage": 1 + stage} if len(self.replies) > 1 else {}),
            **text_health.variety([pair.reply_ids for pair in batch.pairs]),
            **report.metrics,
            **self.counters,
        }


def _first_failure(replies: StepReplies) -> str:
    """What the task's own code raised first, as the end of a message; empty where nothing did."""
    failed = (one.grade.why for one in replies.finished if one.outcome == "failed")
    said = next(failed, "").strip()
    return f", the first by {said.splitlines()[-1]}" if said else ""
