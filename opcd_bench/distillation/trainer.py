"""The training core: one mask, one reduction, one optimiser, one clip, whatever the method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from opcd_bench.config.suite import Suite
from opcd_bench.distillation import masters, noise, scoring
from opcd_bench.distillation.division import Part, parts
from opcd_bench.distillation.losses import functional
from opcd_bench.distillation.losses.logits import likeliest, log_prob_of
from opcd_bench.distillation.losses.policy import Beside
from opcd_bench.distillation.losses.scheduled import Scheduled, State
from opcd_bench.distillation.method import Loss, StepLoss
from opcd_bench.distillation.optimiser import optimiser
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.parallel import remembered, sharding
from opcd_bench.distillation.parallel.peers import Peers
from opcd_bench.distillation.stopwatch import Stopwatch
from opcd_bench.distillation.teachers.base import RuntimeTeacher
from opcd_bench.distillation.teachers.output import TeacherOutput
from opcd_bench.errors import NonFiniteGradients
from opcd_bench.models import adapters, cpu, shards
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.progress import beat
from opcd_bench.rollout import packing

MOST_SKIPPED_IN_A_ROW = 5
MENDS = "lower learning_rate, or set dtype = 'float32' and bf16 = false"
"""What to type where gradients are not finite."""


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


def trained(student: LoadedModel) -> list[torch.nn.Parameter]:
    """What the optimiser moves: the adapter's parameters where there is one, else all of them."""
    if student.adapter is not None:
        return adapters.parameters(student)
    student.model.requires_grad_(True)
    return list(student.model.parameters())


class TrainingCore:
    """Owns the optimiser of one student. Algorithm-blind: it sees pairs, a teacher and a loss.

    With ``peers`` the student is sharded among them: each takes every step with the same pairs, of
    which it computes its share, and what it reports is of all.
    """

    def __init__(
        self,
        student: LoadedModel,
        suite: Suite,
        learning_rate: float,
        peers: Peers | None = None,
    ) -> None:
        self.student, self.peers = student, peers
        self.suite = suite
        self.peak = learning_rate
        self.step_count = 0
        self.skipped = 0
        self.skipped_in_a_row = 0
        self.loss_state: State | None = None
        self.stage = (0, suite.max_steps)
        self.clock = Stopwatch(student.device)
        model: Any = student.model
        noise.disable_dropout(model)
        if suite.gradient_checkpointing:
            new = hasattr(model, "activation_checkpointing_enable")  # newer transformers
            name = "activation" if new else "gradient"
            how = {"use_reentrant": False, "context_fn": packing.again(model)}
            getattr(model, f"{name}_checkpointing_enable")(how)
        moved = trained(student)
        # Shards are their own float32 masters.
        behind = masters.kept(suite) and peers is None
        self.masters = masters.MasterWeights(moved) if behind else None
        self.parameters = self.masters.parameters if self.masters else moved
        self.optimiser = optimiser(self.parameters, suite, learning_rate)

    def in_stage(self, first: int, last: int) -> None:
        """The next step is of a stage of steps ``first`` to ``last``, whose loss begins anew."""
        self.stage = (first, last)
        if self.step_count == first:
            self.loss_state = None

    def step(self, pairs: Sequence[Pair], loss: Loss, teacher: RuntimeTeacher) -> StepReport:
        """One optimiser step on ``pairs``.

        A loss that changes with training is here what it is at this step. Raises
        NonFiniteGradients after five steps in a row without a finite gradient.
        """
        if not pairs:
            raise ValueError("an optimiser step needs at least one response")
        model: Any = self.student.model
        # The live teacher is the student's own module, so modes are set around every pass.
        noise.to_train_mode(model)
        self.clock.start()
        self.optimiser.zero_grad(set_to_none=True)
        total = _Means()
        now = self._loss_now(loss)
        for part in self._parts(pairs, teacher):
            beat(training=f"{part.begin}/{len(pairs)} responses")
            with cpu.quick_products():
                counted = _Means() if part.filler else total
                self._accumulate(part.pairs, part.weights, now, teacher, counted)
        if self.peers:
            total.share(self.peers)
        rate = rate_at(self.step_count, self.peak, self.suite)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        limit = self.suite.max_grad_norm or math.inf
        norm = self._clipped(limit)
        finite = math.isfinite(norm)
        if finite:
            self.optimiser.step()
            # Not every optimiser counts its change in place, and engines go by the count.
            if not self.peers:
                torch.autograd.graph.increment_version(self.parameters)
            if self.masters:
                self.masters.show()
            teacher.after_step(self.student)
            self.skipped_in_a_row = 0
        else:
            self.skipped += 1
            self.skipped_in_a_row += 1
        self.optimiser.zero_grad(set_to_none=True)
        self.step_count += 1
        shown = self._loss_after(loss, total.objective) if finite else {}
        self.clock.lap("optimiser")
        model.eval()
        if self.skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
            raise NonFiniteGradients(
                f"the gradient was not finite in {MOST_SKIPPED_IN_A_ROW} optimiser steps in a row, "
                f"the last of them step {self.step_count}; {MENDS}"
            )
        means = total.means()
        return StepReport(
            divergence=means.pop("divergence"),
            divergence_kind=functional.metric_of(loss),
            grad_norm=norm,
            learning_rate=rate,
            skipped=not finite,
            tokens=sum(len(pair.reply_ids) for pair in pairs),
            replies=len(pairs),
            metrics={**means, **shown},
            seconds=dict(self.clock.seconds),
        )

    def _parts(self, pairs: Sequence[Pair], teacher: RuntimeTeacher) -> list[Part]:
        """The micro-batches of this process."""
        weights = token_weights(pairs, self.suite.reduction)
        if self.peers is None:
            teacher.prepare(pairs)
            return parts(pairs, weights, self.suite)
        # What one process alone refused would leave the others waiting.
        for reader, prompt in ((self.student, "plain_ids"), (teacher.prompts, "told_ids")):
            longest = max(len(getattr(pair, prompt)) + len(pair.reply_ids) for pair in pairs)
            scoring.refuse_overlong(reader, longest)
        with cpu.quick_products():
            teacher.prepare(pairs, processes=self.peers.size)
        return parts(pairs, weights, self.suite, self.peers.rank, self.peers.size)

    def _clipped(self, limit: float) -> float:
        """Clip the gradients; their norm before."""
        if self.peers:
            return sharding.clip(self.parameters, limit)
        return float(torch.nn.utils.clip_grad_norm_(self.parameters, limit))

    def _loss_now(self, loss: Loss) -> StepLoss:
        """The loss of this step."""
        if not isinstance(loss, Scheduled):
            return loss
        if self.loss_state is None:
            self.loss_state = loss.begin()
        first, last = self.stage
        now: StepLoss = loss.at(self.loss_state, (self.step_count - first) / (last - first))
        return now

    def _loss_after(self, loss: Loss, value: float) -> dict[str, float]:
        """Move the state of a loss that changes on; what it was in this step, for the log."""
        if not isinstance(loss, Scheduled):
            return {}
        assert self.loss_state is not None, "a step has a loss before it is over"
        before, (first, last) = dict(self.loss_state), self.stage
        self.loss_state = loss.after(before, (self.step_count - first) / (last - first), value)
        return {f"loss_{name}": number for name, number in before.items() if math.isfinite(number)}

    def _accumulate(
        self,
        pairs: Sequence[Pair],
        weights: Sequence[float],
        loss: StepLoss,
        teacher: RuntimeTeacher,
        total: _Means,
    ) -> None:
        """Forward and backward of one micro-batch; gradients add up in the parameters."""
        student = _MicroBatch(self.student, pairs, self.suite.temperature, self.clock)
        with torch.no_grad():
            output = teacher.score(pairs, loss, student, step=self.step_count)
        self.clock.lap("teacher")
        plain = student.states
        output.check_targets(plain.target_N)
        weight_N = torch.tensor(weights, dtype=torch.float64).to(plain.reply_N.device)[
            plain.reply_N
        ]
        beside = Beside(
            _written(pairs, plain.target_N.device), _advantages(pairs, plain.target_N.device)
        )
        # The head's graph lives for one chunk only: gradients gather in a leaf, then go on down.
        leaf_NH = plain.states_NH.detach().requires_grad_(True)
        for part in scoring.chunks(self.student, len(plain.target_N)):
            chunk = _Chunk(
                part, leaf_NH[part], plain.target_N[part], weight_N[part], beside.part(part)
            )
            self._accumulate_chunk(chunk, pairs[0].written_temperature, loss, output, total)
        torch.autograd.backward(plain.states_NH, leaf_NH.grad)
        self.clock.lap("student")

    def _accumulate_chunk(
        self,
        chunk: _Chunk,
        written_temperature: float | None,
        loss: StepLoss,
        output: TeacherOutput,
        total: _Means,
    ) -> None:
        """Loss and backward of the positions that pass the head at a time; its logits end here."""
        temperature = self.suite.temperature
        student_XV = scoring.logits(self.student, chunk.states_XH, temperature)
        out = output.loss(loss, student_XV, chunk.reply_X, chunk.part, chunk.beside)
        total.add(out.metrics, divergence=out.loss.divergence)
        written_X = chunk.beside.sampler_logp
        if written_X is not None:
            own_X, at = out.reply_logp, written_temperature
            if at is not None and at != temperature:  # the writer's own
                own_X = log_prob_of(student_XV, chunk.reply_X, temperature / at)
            total.add(sampler_trainer_gap=(own_X - written_X).abs())
        del student_XV
        surrogate_X = out.loss.surrogate
        objective = (surrogate_X * chunk.weight_X.to(surrogate_X)).sum()
        total.objective += float(objective.detach())
        torch.autograd.backward(objective)

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs to go on byte for byte, except the weights."""
        found = {
            "optimiser": self.optimiser.state_dict(),
            "step_count": self.step_count,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            **({} if self.loss_state is None else {"loss_state": dict(self.loss_state)}),
            **(self.masters.state() if self.masters else {}),
        }
        if self.peers is None:
            return found
        if masters.kept(self.suite) and self.student.adapter is None:
            found["masters"] = [parameter.detach() for parameter in self.parameters]
        return dict(remembered.whole(found, keep=self.peers.first))

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state()``."""
        stepped = state["optimiser"]
        if self.peers:
            stepped = remembered.sharded(stepped, self.parameters)
            for parameter, master in zip(self.parameters, state.get("masters", []), strict=False):
                shards.put(parameter, master)
        self.optimiser.load_state_dict(stepped)
        if self.masters:
            self.masters.restore(state)
        self.step_count = state["step_count"]
        self.skipped = state["skipped"]
        self.skipped_in_a_row = state["skipped_in_a_row"]
        self.loss_state = state.get("loss_state")


class _MicroBatch:
    """The student's pass over a micro-batch, made once, when somebody first asks for it."""

    def __init__(
        self, student: LoadedModel, pairs: Sequence[Pair], temperature: float, clock: Stopwatch
    ) -> None:
        self._student, self._pairs, self._clock = student, pairs, clock
        self._temperature = temperature
        self.device = student.model.device

    @cached_property
    def states(self) -> scoring.HiddenStates:
        """Hidden states at the reply positions, with gradient; time before it was the teacher's."""
        self._clock.lap("teacher")
        with torch.enable_grad():
            states = scoring.plain_states(self._student, self._pairs)
        self._clock.lap("student")
        return states

    @torch.no_grad()
    def top_ids(self, k: int) -> Tensor:
        """The student's k likeliest ids at each reply position, shape (N, k)."""
        tops = []
        for part in scoring.chunks(self._student, len(self.states.target_N)):
            student_XV = scoring.logits(
                self._student, self.states.states_NH[part], self._temperature
            )
            tops.append(likeliest(student_XV, k))
        self._clock.lap("student")
        return torch.cat(tops)


class _Chunk(NamedTuple):
    """X reply positions that pass the head at a time: which, and what the loss takes of them."""

    part: slice
    states_XH: Tensor
    reply_X: Tensor
    weight_X: Tensor
    beside: Beside


class _Means:
    """Running sums over reply tokens; ``objective`` is what the step differentiates, summed."""

    def __init__(self) -> None:
        self.objective = 0.0
        self.sums: dict[str, float] = {}
        self.counts: dict[str, float] = {}

    def add(self, values: dict[str, Tensor] | None = None, **more: Tensor) -> None:
        for key, value in {**(values or {}), **more}.items():
            self.sums[key] = self.sums.get(key, 0.0) + float(value.detach().double().sum())
            self.counts[key] = self.counts.get(key, 0) + value.numel()

    def share(self, peers: Peers) -> None:
        """Make the sums those of all processes."""
        own = {"objective": self.objective}
        self.sums, self.counts, own = peers.summed(self.sums, self.counts, own)
        self.objective = own["objective"]

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


def _advantages(pairs: Sequence[Pair], device: torch.device) -> Tensor | None:
    """The advantages of the reply tokens, packed; None unless every reply has one."""
    packed: list[float] = []
    for pair in pairs:
        if pair.advantage is None:
            return None
        packed.extend([pair.advantage] * len(pair.reply_ids))
    return torch.tensor(packed, device=device)
