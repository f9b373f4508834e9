"""Teachers in this process: none, frozen, live, or a moving average of the student."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from opcd_bench.distillation import scoring
from opcd_bench.distillation.method import StepLoss
from opcd_bench.distillation.pairs import Pair
from opcd_bench.distillation.teachers.base import StudentPass, Unmoved
from opcd_bench.distillation.teachers.output import FullOutput, NoOutput, TeacherOutput
from opcd_bench.models import adapters, loading, saving, shards
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.models.modes import in_eval_mode
from opcd_bench.rollout.prefixes import Prefixes

FOLDER, SHADOW = "teacher", "teacher_average.safetensors"
"""What a checkpoint holds of a teacher that moves: its model, and the float32 average behind it."""


class NoTeacher(Unmoved):
    """For losses that read none; told prompts are rendered as the student's, and never scored."""

    scores = False

    def __init__(self, student: PromptFormat) -> None:
        self.prompts = student

    def score(
        self, pairs: Sequence[Pair], loss: StepLoss, student: StudentPass, *, step: int
    ) -> NoOutput:
        """Nothing."""
        return NoOutput()


class FrozenTeacher(Unmoved):
    """A model in this process, told, as it stands; ``temperature`` is the loss's."""

    scores = True

    def __init__(self, model: LoadedModel, temperature: float) -> None:
        self.model, self.temperature = model, temperature
        self._prefixes = Prefixes(model)

    @property
    def prompts(self) -> PromptFormat:
        """Its own."""
        return self.model

    def prepare(self, pairs: Sequence[Pair], *, processes: int = 1) -> None:
        """See which contexts the replies of a step share: each is read once for all of them."""
        told = [pair.told_ids for pair in pairs]
        if processes == 1:
            self._prefixes.plan(told)
            return
        with in_eval_mode(self.model.model), adapters.active(self.model):
            self._prefixes.plan_ahead(told, processes)

    def score(
        self, pairs: Sequence[Pair], loss: StepLoss, student: StudentPass, *, step: int
    ) -> FullOutput:
        """Its whole distribution at every reply token. The module's mode is left as it was."""
        with in_eval_mode(self.model.model):
            states = scoring.told_states(self.model, pairs, self._prefixes)
        return FullOutput(self.model, states, self.temperature)


class LiveTeacher(FrozenTeacher):
    """The student's own module, told, without gradient: it moves because the student does."""

    def after_step(self, student: LoadedModel) -> None:
        """What was read with the weights of the last step holds no more."""
        self._prefixes.forget()


class EmaTeacher(FrozenTeacher):
    """A moving average of the student: ``t <- rate t + (1 - rate) s`` after every step.

    The average is of the weights that the student computes with (an adapter merged: the mean of
    two adapters is not the adapter of the mean weights) and is kept in float32: in bfloat16 steps
    this small would round away, and the teacher would stand still.
    """

    def __init__(self, initial: LoadedModel, rate: float, temperature: float) -> None:
        super().__init__(self._own(initial), temperature)
        self.rate = rate
        weights = dict(self.model.model.named_parameters())
        # Where the weights are float32 they are their own average.
        self._average: dict[str, Tensor] = {
            name: tensor if tensor.dtype == torch.float32 else tensor.detach().float()
            for name, tensor in weights.items()
        }
        self._rounded = any(tensor.dtype != torch.float32 for tensor in weights.values())

    @torch.no_grad()
    def after_step(self, student: LoadedModel) -> None:
        """Move one step towards the student."""
        now = self._now(student)
        for name, tensor in self._average.items():
            average = shards.local(tensor)
            average.lerp_(now[name].to(average), 1.0 - self.rate)
        self._show()
        self._prefixes.forget()

    def _own(self, initial: LoadedModel) -> LoadedModel:
        """A copy for the average to live in."""
        return loading.copy_frozen(initial)

    def _now(self, student: LoadedModel) -> Mapping[str, Tensor]:
        """The weights that the student computes with, by name."""
        return adapters.weights(student, dtype=torch.float32)

    def _show(self) -> None:
        """Give the model its average, in the type that it computes in."""
        if self._rounded:
            for name, parameter in self.model.model.named_parameters():
                shards.local(parameter).copy_(shards.local(self._average[name]))

    def save(self, folder: Path) -> None:
        """The model as a Hugging Face folder, and the average where the model rounds it."""
        saving.save(self.model, folder / FOLDER)
        if self._rounded:
            kept = {name: tensor.cpu().contiguous() for name, tensor in self._average.items()}
            save_file(kept, folder / SHADOW)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """The inverse of ``save``."""
        self._prefixes.forget()
        if not self._rounded:
            saving.load_weights(self.model, folder / FOLDER)
            return
        for name, tensor in load_file(folder / SHADOW).items():
            shards.put(self._average[name], tensor)
        self._show()


class Shuffled:
    """A teacher whose rows are permuted among the positions of each micro-batch.

    The control that must not help. ``seed_of_step`` gives the permutation's seed.
    """

    def __init__(self, teacher: FrozenTeacher, seed_of_step: Callable[[int], int]) -> None:
        self._teacher, self._seed_of_step = teacher, seed_of_step
        self.prompts, self.scores = teacher.prompts, teacher.scores
        self.after_step, self.save, self.load = teacher.after_step, teacher.save, teacher.load
        self.prepare = teacher.prepare

    def score(
        self, pairs: Sequence[Pair], loss: StepLoss, student: StudentPass, *, step: int
    ) -> TeacherOutput:
        """The teacher's output, each position with another one's distribution."""
        output = self._teacher.score(pairs, loss, student, step=step)
        states = output.states
        generator = torch.Generator().manual_seed(self._seed_of_step(step))
        order = torch.randperm(len(states.target_N), generator=generator).to(states.target_N)
        shuffled = dataclasses.replace(states, states_NH=states.states_NH[order])
        return dataclasses.replace(output, states=shuffled)
