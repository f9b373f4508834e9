"""What scores of a suite would be measured under now: known before anything is measured."""

from __future__ import annotations

from pathlib import Path

from opcd_bench.config import measures
from opcd_bench.config.suite import Suite
from opcd_bench.envs.task import PROBE, Probe, Split, Task
from opcd_bench.evaluation import held_out, retention, task_scores
from opcd_bench.evaluation.scores import Protocol
from opcd_bench.models.loaded import PromptFormat
from opcd_bench.runner import shared_questions
from opcd_bench.runner.models import SuiteModels
from opcd_bench.store.jsonl import Row


class Protocols:
    """The protocols of a suite's scores, each as `scores.Protocol`; retention's are read once.

    ``of_runs``: the primary scores that finished runs stored, without numbers, each read once.
    """

    def __init__(self, suite: Suite, models: SuiteModels) -> None:
        self.suite, self.models = suite, models
        self._retention: dict[str, Protocol | None] = {}
        self.of_runs: dict[Path, list[Row]] = {}

    def scored(self, task: Task, split: Split, loaded: PromptFormat) -> Protocol:
        """Of a model on a split of a task."""
        suite = self.suite.for_task(task.name)
        asked = task_scores.asked(suite, split)
        return task_scores.protocol_of(task, asked, loaded=loaded, suite=suite)

    def probed(self, task: Task, probe: Probe, loaded: PromptFormat) -> Protocol:
        """Of a model on a further test set of a task."""
        return task_scores.protocol_of_probe(task, probe, self.suite.for_task(task.name), loaded)

    def retention(self, name: str) -> Protocol | None:
        """Of a retention task or measure, as the student before training reads it; None of drift.

        Drift is measured on stored responses of the base, which its score names.
        """
        if name not in self._retention:
            self._retention[name] = self._of_retention(name)
        return self._retention[name]

    def _of_retention(self, name: str) -> Protocol | None:
        suite, loaded = self.suite, self.models.initial
        if name == measures.DRIFT:
            return None
        if measures.is_measure(name):
            return held_out.protocol_of(loaded, name, suite.data_dir)
        if name in shared_questions.own(suite):
            task = shared_questions.own_task(suite, name)
            asked = task_scores.asked_of_retention(suite, task)
            return task_scores.protocol_of(task, asked, loaded=loaded, suite=suite)
        return retention.protocol_of(
            name,
            loaded.tokenizer,
            decoding=task_scores.retention_sampling(suite),
            limit=suite.retention_items,
            data_dir=suite.data_dir,
            engine=self.models.engine(loaded),
        )

    def of_cells(self, task: Task) -> dict[tuple[str, str], Protocol]:
        """(measured, split) -> that of a task's cells, as `evals` has them; drift is left out."""
        initial, suite = self.models.initial, self.suite.for_task(task.name)
        found = {
            (task.name, "dev"): self.scored(task, "dev", initial),
            (task.name, "test"): self.scored(task, "test", initial),
        }
        for probe in task_scores.further_sets(task, suite):
            found[task_scores.probe_name(task, probe), PROBE] = self.probed(task, probe, initial)
        for name in self.suite.retention:
            split = measures.NATS if measures.is_measure(name) else "retention"
            if (retained := self.retention(name)) is not None:
                found[name, split] = retained
        return found
