"""The training core: one mask, one reduction, one optimiser, one clip, whatever the method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from opcd_bench.config.suite import Suite
from opcd_bench.distillation import scoring, teaching
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.method import Loss
from opcd_bench.distillation.optimiser import optimiser
from opcd_bench.distillation.scoring import Pair
from opcd_bench.distillation.stopwatch import Stopwatch
from opcd_bench.distillation.top_k_teacher import TopKTeacher
from opcd_bench.errors import NonFiniteGradients
from opcd_bench.models import adapters, cpu, saving
from opcd_bench.models.loaded import LoadedModel

MOST_SKIPPED_IN_A_ROW = 5


@dataclass(frozen=True)
class StepReport:
    """What one optimiser step did; means are over the reply tokens of the step.

    ``divergence`` is the loss's own loggable divergence (``divergence_kind`` names it), never a
    surrogate. ``skipped`` says that the gradient was not finite and no weight moved. ``seconds``
    by phase: ``teacher`` (its pass, or asking the one that serves it), ``student`` (forward, loss
    with the teacher's head, backward) and ``optimiser`` (clip and update).
    """

    divergence: float
    divergence_kind: str
    grad_norm: float
    learning_rate: float
    skipped: bool
    tokens: int
    replies: int
    metrics: dict[str, float]
    seconds: dict[str, float]


def rate_at(step: int, peak: float, suite: Suite) -> float:
    """The learning rate of optimiser step ``step`` (0-based): linear warm-up, then the schedule."""
    if step < suite.warmup_steps:
        return peak * (step + 1) / suite.warmup_steps
    if suite.lr_scheduler_type == "constant":
        return peak
    after = suite.max_steps - suite.warmup_steps
    progress = (step - suite.warmup_steps) / max(after, 1)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def token_weights(pairs: Sequence[Pair], reduction: str) -> list[float]:
    """Each reply's weight per token, so that sum over tokens of weight x loss is the reduction.

    ``token_mean``: one mean over all reply tokens of the optimiser step. ``sequence_mean``: the
    mean over replies of each reply's mean (arXiv 2602.12275, Eq. 1). Both are global to the step,
    so micro-batches of any size accumulate to the same gradient.
    """
    if reduction == "token_mean":
        total = sum(len(pair.reply_ids) for pair in pairs)
        return [1.0 / total] * len(pairs)
    return [1.0 / (len(pairs) * len(pair.reply_ids)) for pair in pairs]


def disable_dropout(model: torch.nn.Module) -> None:
    """Switch dropout off in train mode too.

    The loss compares two readings of one function, and a resumed run must repeat the uninterrupted
    one; noise in one of the readings would break both.
    """
    module: Any
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


def trained(student: LoadedModel) -> list[torch.nn.Parameter]:
    """What the optimiser moves: the adapter's parameters where there is one, else all of them."""
    if student.adapter is not None:
        return adapters.parameters(student)
    student.model.requires_grad_(True)
    return list(student.model.parameters())


class TrainingCore:
    """Owns the optimiser of one student. Algorithm-blind: it sees pairs, a teacher and a loss."""

    def __init__(self, student: LoadedModel, suite: Suite, learning_rate: float) -> None:
        self.student = student
        self.suite = suite
        self.peak = learning_rate
        self.step_count = 0
        self.skipped = 0
        self.skipped_in_a_row = 0
        self.clock = Stopwatch(student.device)
        model: Any = student.model
        disable_dropout(model)
        if suite.gradient_checkpointing:
            new = hasattr(model, "activation_checkpointing_enable")  # newer transformers
            name = "activation" if new else "gradient"
            getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
        self.parameters: list[torch.nn.Parameter] = trained(student)
        self.optimiser = optimiser(self.parameters, suite, learning_rate)

    def step(
        self,
        pairs: Sequence[Pair],
        loss: Loss,
        teacher: LoadedModel | TopKTeacher | None,
        *,
        shuffle: int | None,
    ) -> StepReport:
        """One optimiser step on ``pairs``.

        ``teacher`` None is a teacher that the loss does not need; one that vLLM scores is read on
        the ids that the loss sums over. ``shuffle`` is a seed: the teacher's rows are permuted
        among the positions of each micro-batch (the broken control). Raises NonFiniteGradients
        after five steps in a row without a finite gradient.
        """
        if not pairs:
            raise ValueError("an optimiser step needs at least one reply")
        model: Any = self.student.model
        # The live teacher is the student's own module, so modes are set around every pass.
        model.train()
        self.clock.start()
        self.optimiser.zero_grad(set_to_none=True)
        weights = token_weights(pairs, self.suite.reduction)
        total = _Means()
        for start in range(0, len(pairs), self.suite.micro_batch_size):
            part = slice(start, start + self.suite.micro_batch_size)
            with cpu.quick_products():
                self._accumulate(pairs[part], weights[part], loss, teacher, shuffle, total)
        rate = rate_at(self.step_count, self.peak, self.suite)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        limit = self.suite.max_grad_norm or math.inf
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, limit))
        finite = math.isfinite(norm)
        if finite:
            self.optimiser.step()
            # Not every optimiser counts its change in place, and engines go by the count.
            torch.autograd.graph.increment_version(self.parameters)
            self.skipped_in_a_row = 0
        else:
            self.skipped += 1
            self.skipped_in_a_row += 1
        self.optimiser.zero_grad(set_to_none=True)
        self.step_count += 1
        self.clock.lap("optimiser")
        model.eval()
        if self.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
            raise NonFiniteGradients(
                f"the gradient was not finite in {MOST_SKIPPED_IN_A_ROW} optimiser steps in a row, "
                f"the last of them step {self.step_count}; lower learning_rate, or set "
                "dtype = 'float32' and bf16 = false"
            )
        means = total.means()
        return StepReport(
            divergence=means.pop("divergence"),
            divergence_kind=loss.metric if isinstance(loss, Divergence) else "divergence",
            grad_norm=norm,
            learning_rate=rate,
            skipped=not finite,
            tokens=sum(len(pair.reply_ids) for pair in pairs),
            replies=len(pairs),
            metrics=means,
            seconds=dict(self.clock.seconds),
        )

    def _accumulate(
        self,
        pairs: Sequence[Pair],
        weights: Sequence[float],
        loss: Loss,
        teacher: LoadedModel | TopKTeacher | None,
        shuffle: int | None,
        total: _Means,
    ) -> None:
        """Forward and backward of one micro-batch; gradients add up in the parameters."""
        # Two autocast blocks: weights that the first casts under no_grad carry no gradient, and a
        # live teacher is the student's own module.
        told: teaching.Reading = teaching.NoTeacher()
        if isinstance(teacher, LoadedModel):
            with torch.no_grad(), self._autocast():
                told = self._read_teacher(pairs, teacher, shuffle)
        self.clock.lap("teacher")
        with self._autocast():
            plain, _ = scoring.read_pairs(self.student, None, pairs)
        if isinstance(teacher, TopKTeacher):
            self.clock.lap("student")
            told = self._ask_teacher(pairs, teacher, loss, plain)
            self.clock.lap("teacher")
        if isinstance(told, teaching.WholeTeacher) and not torch.equal(
            plain.target_N, told.states.target_N.to(plain.target_N)
        ):
            raise AssertionError("told and plain readings are not of the same reply tokens")
        weight_N = torch.tensor(weights, dtype=torch.float64).to(plain.reply_N.device)[
            plain.reply_N
        ]
        written_N = _written(pairs, plain.target_N.device)
        # The head's graph lives for one chunk only: gradients gather in a leaf, then go on down.
        leaf_NH = plain.states_NH.detach().requires_grad_(True)
        for part in scoring.chunks(self.student, len(plain.target_N)):
            reply_X = plain.target_N[part]
            with self._autocast():
                student_XV = scoring.logits(self.student, leaf_NH[part]) / self.suite.temperature
                written_X = None if written_N is None else written_N[part]
                weighted = isinstance(loss, Divergence) and loss.importance_weight
                extra = {"sampler_logp": written_X} if weighted and written_X is not None else {}
                out, metrics = told.loss(loss, student_XV, reply_X, part, extra)
            scaled_X: Tensor = out.surrogate * weight_N[part].to(out.surrogate)
            torch.autograd.backward(scaled_X.sum())
            total.add(metrics)
            total.add(divergence=out.divergence)
            if written_X is not None:
                own_X = self._written_logp(pairs, student_XV.detach(), reply_X)
                total.add(sampler_trainer_gap=(own_X - written_X).abs())
        torch.autograd.backward(plain.states_NH, leaf_NH.grad)
        self.clock.lap("student")

    def _read_teacher(
        self, pairs: Sequence[Pair], teacher: LoadedModel, shuffle: int | None
    ) -> teaching.WholeTeacher:
        model: Any = teacher.model
        was_training = model.training
        model.eval()
        told = scoring.hidden_states(
            teacher, [p.told_ids for p in pairs], [p.reply_ids for p in pairs]
        )
        model.train(was_training)
        if shuffle is not None:
            generator = torch.Generator().manual_seed(shuffle)
            order = torch.randperm(len(told.target_N), generator=generator).to(told.target_N)
            told = scoring.HiddenStates(told.states_NH[order], told.target_N, told.reply_N)
        return teaching.WholeTeacher(teacher, told, self.suite.temperature)

    @torch.no_grad()
    def _ask_teacher(
        self, pairs: Sequence[Pair], teacher: TopKTeacher, loss: Loss, plain: scoring.HiddenStates
    ) -> teaching.ListedReading:
        assert isinstance(loss, Divergence)

        def student_top(k: int) -> Tensor:
            tops = []
            for part in scoring.chunks(self.student, len(plain.target_N)):
                with self._autocast():
                    student_XV = scoring.logits(self.student, plain.states_NH[part])
                tops.append(student_XV.topk(k, dim=-1).indices)
            return torch.cat(tops)

        listed = teacher.read(pairs, loss, student_top, plain.target_N.device)
        return teaching.ListedReading(listed, self.suite.temperature)

    def _written_logp(self, pairs: Sequence[Pair], student_XV: Tensor, reply_X: Tensor) -> Tensor:
        """The student's log-probs of the reply, at the temperature of the writer's own."""
        at = pairs[0].written_temperature
        if at is not None and at != self.suite.temperature:
            student_XV = student_XV * (self.suite.temperature / at)
        return student_XV.log_softmax(-1).gather(-1, reply_X[:, None])[:, 0]

    def _autocast(self) -> AbstractContextManager[Any]:
        if not self.suite.bf16:
            return nullcontext()
        return torch.autocast(self.student.model.device.type, dtype=torch.bfloat16)

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs to go on byte for byte, except the weights."""
        return {
            "optimiser": self.optimiser.state_dict(),
            "step_count": self.step_count,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state()``."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.step_count = state["step_count"]
        self.skipped = state["skipped"]
        self.skipped_in_a_row = state["skipped_in_a_row"]


class EmaTeacher:
    """A teacher that follows the student: ``t <- rate t + (1 - rate) s`` after every step."""

    def __init__(self, teacher: LoadedModel, rate: float) -> None:
        self.teacher = teacher
        self.rate = rate

    @torch.no_grad()
    def follow(self, student: LoadedModel) -> None:
        """Move the teacher's weights one step towards the student's."""
        pairs = zip(self.teacher.model.parameters(), student.model.parameters(), strict=True)
        for teacher, own in pairs:
            teacher.lerp_(own.to(teacher), 1.0 - self.rate)


class _Means:
    """Running sums over reply tokens."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def add(self, values: dict[str, Tensor] | None = None, **more: Tensor) -> None:
        for key, value in {**(values or {}), **more}.items():
            self.sums[key] = self.sums.get(key, 0.0) + float(value.detach().double().sum())
            self.counts[key] = self.counts.get(key, 0) + value.numel()

    def means(self) -> dict[str, float]:
        return {key: self.sums[key] / self.counts[key] for key in self.sums}


def _written(pairs: Sequence[Pair], device: torch.device) -> Tensor | None:
    """The writer's own log-probs of the reply tokens, packed; None unless every reply has them."""
    packed: list[float] = []
    for pair in pairs:
        if pair.written_logprobs is None:
            return None
        packed.extend(pair.written_logprobs)
    return torch.tensor(packed, device=device)


MODEL, OPTIMISER, TEACHER, ADAPTER = "model", "optimiser.pt", "teacher", "adapter"
"""What a checkpoint holds: a Hugging Face folder, what the optimiser needs to go on, and where
there is one a teacher that moves (a second such folder), or the adapter (peft's own format), which
the first folder has merged and so rounded."""


def save_state(core: TrainingCore, folder: Path) -> None:
    """A resumable checkpoint in an existing folder; ``model/`` opens with transformers as it is."""
    saving.save(core.student, folder / MODEL)
    if core.student.adapter is not None:
        adapters.save(core.student, folder / ADAPTER)
    torch.save(core.state(), folder / OPTIMISER)


def load_state(core: TrainingCore, folder: Path) -> None:
    """The inverse of ``save_state``."""
    if core.student.adapter is None:
        saving.load_weights(core.student, folder / MODEL)
    else:
        adapters.load(core.student, folder / ADAPTER)
    core.restore(torch.load(folder / OPTIMISER, map_location="cpu", weights_only=True))


def save_teacher(teacher: LoadedModel, folder: Path) -> None:
    """An EMA teacher, beside the student."""
    saving.save(teacher, folder / TEACHER)


def load_teacher(teacher: LoadedModel, folder: Path) -> None:
    """The inverse of ``save_teacher``."""
    saving.load_weights(teacher, folder / TEACHER)
