"""The stored batch of real trajectories that losses are audited on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from opcd_bench.config.suite import Suite
from opcd_bench.distillation import pairs, sampling, scoring, stored_replies
from opcd_bench.distillation.losses import audit
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.scheduled import forms
from opcd_bench.distillation.method import Method, Teacher
from opcd_bench.envs.task import describe_task
from opcd_bench.errors import DataError
from opcd_bench.evaluation.task_scores import contexts_of
from opcd_bench.hashing import digest
from opcd_bench.progress import Reporter
from opcd_bench.runner import registry
from opcd_bench.runner.resources import Resources
from opcd_bench.store.suite_dir import SuiteDir

FOLDER = "audit"


def rows(
    suite: Suite, methods: Sequence[Method], items: int, console: Reporter
) -> list[tuple[str, audit.AuditRow]]:
    """A row a method, with its name: its loss's logit gradient against the full reverse KL's.

    A loss that changes with training has two: as it begins, and as its schedule ends.

    The plain student writes replies to the first ``items`` train examples of the suite's first
    task, once: they are stored under ``results/audit/shared/`` and read from there ever after. The
    initial teacher reads the task's context. Raises InvalidLoss where k exceeds the vocabulary.
    """
    task = registry.task_of(suite, suite.tasks[0])
    contexts_of(task)
    root = SuiteDir(Path(suite.output_dir) / FOLDER)
    resources = Resources(suite, root, console)
    resources.check(methods)
    root.merge({"name": FOLDER, "summary": "Stored batches that losses are audited on."})
    loaded = resources.models.initial
    examples = list(task.examples("train")[:items])
    slots = [sampling.Slot(0, example, 0) for example in examples]
    drawn = sampling.reply_sampling(suite)
    key = digest(
        {
            "model": resources.models.identity,
            "task": describe_task(task),
            "sampling": drawn.__dict__,
            "examples": [example.id for example in examples],
        }
    )
    shared = root.shared(task.name, key)
    if not shared.has("replies"):
        with console.phase(f"{task.name}: student rollouts", None, "responses"):
            written = sampling.sample_replies(
                slots, task, suite, 0, loaded, resources.models.engine(loaded), None
            )
        shared.put("replies", [stored_replies.row_of(t) for t in written])
    batch = pairs.pairs_of(
        [stored_replies.of_row(row) for row in shared.get("replies")],
        examples,
        Teacher(),
        task,
        suite,
        loaded,
        seed=0,
        told_by=loaded,
        on_policy=[True] * len(examples),
    )
    if not batch.pairs:
        raise DataError(
            f"task {task.name!r}: no response could be scored, so nothing can be audited"
        )
    with torch.no_grad():
        plain, told = (
            scoring.plain_states(loaded, batch.pairs),
            scoring.told_states(loaded, batch.pairs),
        )
        student_NV = scoring.logits(loaded, plain.states_NH) / suite.temperature
        teacher_NV = scoring.logits(loaded, told.states_NH) / suite.temperature
    named = [one for method in methods for one in _audited(method)]
    losses = [loss for _, loss in named]
    found = audit.rows(losses, student_NV, teacher_NV, plain.target_N)
    return [(name, row) for (name, _), row in zip(named, found, strict=True)]


def _audited(method: Method) -> list[tuple[str, Divergence]]:
    """The Divergences that a method's loss is, each with its name in the table."""
    found = forms(method.loss)
    steps = ("",) if len(found) == 1 else (", first step", ", last step")
    return [(f"{method.name}{step}", form) for step, form in zip(steps, found, strict=True)]
