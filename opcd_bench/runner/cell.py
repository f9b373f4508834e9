"""Runs one cell: train by a method, score along the way, choose on dev, touch test once, seal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Method
from opcd_bench.envs.task import Task
from opcd_bench.errors import CellFailed
from opcd_bench.models import card
from opcd_bench.progress import Reporter
from opcd_bench.runner.cell_scores import CellScores
from opcd_bench.runner.grid import Cell
from opcd_bench.runner.out_of_memory import explain_out_of_memory
from opcd_bench.runner.refusals import refuse_other_teachers
from opcd_bench.runner.resources import Resources
from opcd_bench.runner.tracker import Tracker
from opcd_bench.runner.training import Training
from opcd_bench.store.checkpoints import MODEL
from opcd_bench.store.run_dir import RunDir


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
        self.cell, self.task, self.resources = cell, task, resources
        self.run_dir, self.console = run_dir, console
        self.before_seal: Callable[[], None] = lambda: None
        """Raises where the run is not to be sealed after all."""
        # What is trained once a seed, before the student is this cell's.
        resources.prepare(method, task, cell.seed)
        refuse_other_teachers(resources, method, task, cell.seed)
        self.suite: Suite = resources.suite.for_task(task.name)
        self.training = Training(
            method, task, cell.seed, cell.learning_rate, resources, run_dir, tracker
        )
        student, engine = self.training.student, self.training.engine
        self.scores = CellScores(cell, task, resources, run_dir, student, engine)

    def run(self) -> None:
        """Everything from the last checkpoint to the seal."""
        step = self.training.resume(self._chosen_by)
        last = self.suite.max_steps
        with self.console.phase(self._title(), last, "steps", done=step) as phase:
            if step == 0 and not self.scores.evaluated(0):
                self._evaluate(0)
            while step < last:
                divergence = self.training.step(step)
                step += 1
                if step in self.suite.evaluated_steps():
                    self._evaluate(step)
                if self._checkpoint_due(step):
                    self._checkpoint(step)
                phase.advance(
                    1,
                    divergence=divergence,
                    **self.training.collapse_at(step, self._title(), self.console),
                )
        self.training.look_at_skipped(self._title(), self.console)
        self._finish()

    def rehearse(self, steps: int) -> None:
        """``steps`` optimiser steps, and nothing else: no score, no checkpoint, no seal."""
        for step in range(steps):
            self.training.step(step)

    def _title(self) -> str:
        cell = self.cell
        return f"{cell.task} {cell.method} lr {cell.learning_rate:g} seed {cell.seed}"

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
            self.training.save(step, folder)
            text = card.card(self.cell.config, self.run_dir.read("evals"), step, self.cell.name)
            (folder / MODEL / card.CARD).write_text(text, encoding="utf-8")
        if self.suite.keep_checkpoints != "all":
            self.run_dir.drop_checkpoints({step, self._chosen_by(step)})

    def _chosen_by(self, step: int) -> int:
        """The step that would be chosen of all up to ``step``, as far as one would be."""
        if self.suite.choose == "last":
            return step
        if self.suite.choose == "dev":
            dev = {one: value for one, value in self.scores.dev_by_step().items() if one <= step}
            return choose_step(self.suite, dev).step if dev else 0
        fixed = int(self.suite.choose)
        return fixed if fixed <= step else 0

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
        self.before_seal()
        collapsed = self.training.collapsed
        kept = {"none": (), "chosen": {choice.step} - {0}, "all": None}
        self.run_dir.seal(
            {
                "chosen_step": choice.step,
                "rule": choice.rule,
                "anchors": anchors,
                **self.training.counters,
                **({} if collapsed is None else {"collapsed": asdict(collapsed)}),
            },
            keep=kept[self.suite.keep_checkpoints],
        )

    def _load_weights(self, step: int) -> None:
        learner = self.training.learner
        if step == self.suite.max_steps and learner.core.step_count == step:
            return
        if step == 0:
            learner.restore()
            return
        learner.load_student(self.run_dir.checkpoint_at(step).path)
