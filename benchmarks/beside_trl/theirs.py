"""TRL's side: its own trainer and its own loop, which waits before every step until asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, LogitsProcessor, TrainerCallback
from trl import DistillationConfig, DistillationTrainer
from trl.experimental.sdft import SDFTConfig, SDFTTrainer

from beside_trl import side
from beside_trl.workloads import EOS, Workload


class Forced(LogitsProcessor):
    """Ends every reply at its own length, and never before."""

    def __init__(self, lengths: tuple[int, ...], prompt: int) -> None:
        self.last_B = torch.tensor([prompt + length - 1 for length in lengths])

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores with end of sequence alone where a row is at its end, and without it elsewhere."""
        ends_B1 = (self.last_B == input_ids.shape[1])[:, None]
        end_V = torch.zeros(scores.shape[1], dtype=torch.bool)
        end_V[EOS] = True
        return scores.masked_fill(end_V != ends_B1, -torch.inf)


class Clock:
    """Seconds by phase of the calls that are watched, none of which is inside of another."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def watched(self, phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, with its time added to ``phase``."""

        def timed(*words: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*words, **named)
            finally:
                taken = time.perf_counter() - began
                self.seconds[phase] = self.seconds.get(phase, 0.0) + taken

        return timed


class Theirs(TrainerCallback):
    """A trainer, the times of its parts, and the waiting before its steps."""

    def __init__(
        self, workload: Workload, folder: Path, rate: float, steps: int, channel: side.Channel
    ) -> None:
        self.workload, self.channel, self.clock = workload, channel, Clock()
        self.given: list[list[int]] | None = None
        self.losses: list[float] = []
        self.norm = 0.0
        self.memory = side.Memory()
        self.trainer = _trainer(workload, folder, rate, steps)
        teacher = self.trainer.accelerator.unwrap_model(self.trainer.teacher_model)
        self.positions = side.Positions(self.trainer.model, teacher)
        self._watch(teacher)
        self.trainer.add_callback(self)

    def serve(self) -> None:
        """TRL's loop over all steps."""
        self.memory.start()
        self.channel.send(ready=True)
        self.trainer.train()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait for a line; ``replies`` in it are used in place of sampled ones."""
        asked = self.channel.receive()
        if asked is None:
            raise SystemExit(0)
        self.given = asked.get("replies")
        self.clock.seconds, self.losses = {}, []
        self.positions.clear()
        self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Report."""
        now = time.perf_counter()
        whole, seconds = now - self.began, self.clock.seconds
        seconds["optimiser"] = now - self.trained_at
        seconds["student"] = whole - sum(seconds.values())
        step = side.Step(sum(self.losses), self.norm, self.written, seconds, whole)
        self.channel.send(
            **vars(step), positions=self.positions.counts, memory=self.memory.report()
        )

    def _watch(self, teacher: Any) -> None:
        """Take the times of sampling and teacher; note losses, gradient norm and replies."""
        trainer, sdft = self.trainer, bool(self.workload.told)
        sample, score = (
            ("_generate", "_forward_logits")
            if sdft
            else ("_generate_single_turn", "_get_last_hidden_state")
        )
        sampling = self.clock.watched("sampling", getattr(trainer, sample))

        def sampled(prompt_ids: list[list[int]], *words: Any) -> Any:
            if self.given is not None:
                self.written = self.given
                return (prompt_ids, self.given) if sdft else self.given
            found = sampling(prompt_ids, *words)
            self.written = found[1] if sdft else found
            if tuple(map(len, self.written)) != self.workload.lengths:
                raise RuntimeError(f"replies of {list(map(len, self.written))} tokens")
            return found

        scoring = getattr(trainer, score)
        timed = self.clock.watched("teacher", scoring)

        def scored(*words: Any, **named: Any) -> Any:
            model = named["model"] if "model" in named else words[0]
            whose = timed if trainer.accelerator.unwrap_model(model) is teacher else scoring
            return whose(*words, **named)

        training, clip = trainer.training_step, trainer.accelerator.clip_grad_norm_

        def trained(*words: Any) -> Any:
            loss = training(*words)
            self.losses.append(float(loss))
            self.trained_at = time.perf_counter()
            return loss

        def clipped(*words: Any) -> Any:
            norm = clip(*words)
            self.norm = float(norm)
            return norm

        setattr(trainer, sample, sampled)
        setattr(trainer, score, scored)
        trainer._tokenize_prompts = self.clock.watched("sampling", trainer._tokenize_prompts)
        trainer.training_step, trainer.accelerator.clip_grad_norm_ = trained, clipped
        if len(set(self.workload.lengths)) > 1:
            forced = Forced(self.workload.lengths, self.workload.prompt)
            generate = trainer.model.generate
            trainer.model.generate = lambda **named: generate(logits_processor=[forced], **named)


def _trainer(workload: Workload, folder: Path, rate: float, steps: int) -> Any:
    """TRL's trainer with its quickest settings that do the same work."""
    replies = len(workload.lengths)
    equal = len(set(workload.lengths)) == 1
    shared: dict[str, Any] = {
        "output_dir": str(folder / "trl"),
        "max_steps": steps,
        "per_device_train_batch_size": workload.micro_batch,
        "gradient_accumulation_steps": replies // workload.micro_batch,
        "max_completion_length": workload.longest,
        "generation_kwargs": {"min_new_tokens": workload.longest} if equal else None,
        "learning_rate": rate,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": workload.bf16,
        "gradient_checkpointing": workload.checkpointing,
        "use_cpu": True,
        "shuffle_dataset": False,
        "disable_dropout": True,
        "dataloader_pin_memory": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    rows = [{"prompt": text} for step in range(steps) for text in workload.prompts(step)]
    student = str(folder / "student")
    tokenizer = AutoTokenizer.from_pretrained(student, padding_side="left")
    if not workload.told:
        return DistillationTrainer(
            student,
            str(folder / "teacher"),
            args=DistillationConfig(beta=1.0, teacher_model_init_kwargs=_FLOAT, **shared),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
    context = workload.context()
    return SDFTTrainer(
        student,
        args=SDFTConfig(
            teacher_prompt_template="{privileged_context}{prompt}",
            teacher_model_kind="base",
            num_generations=1,
            max_prompt_length=None,
            distillation_alpha=1.0,
            distillation_mode="full_logits" if workload.top_k is None else "topk_logits",
            distillation_topk=workload.top_k,
            distillation_is_clip=None,
            **shared,
        ),
        train_dataset=Dataset.from_list([{**row, "privileged_context": context} for row in rows]),
        processing_class=tokenizer,
    )


_FLOAT = {"dtype": "float32"}
