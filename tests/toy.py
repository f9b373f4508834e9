"""A task and a suite small enough for whole cells in tests: one turn, a byte to repeat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from opcd_bench.config.suite import Suite, make_suite
from opcd_bench.envs.task import (
    BestPossible,
    Context,
    Episode,
    Example,
    Floor,
    Grade,
    Split,
    Task,
    Turn,
)

SIZES = {"train": 6, "dev": 4, "test": 5}


class ToyEpisode(Episode):
    def __init__(self, example: Example) -> None:
        self.example = example
        self.messages = [{"role": "user", "content": f"Say {example.content['word']}."}]
        self.reply = ""

    def step(self, reply: str) -> Turn:
        self.reply = reply
        return Turn((), done=True)

    def grade(self) -> Grade:
        return Grade(float(len(self.reply) % 2), self.reply[:4], "odd replies count")


class Toy(Task):
    """``opened`` is called with (split, example) before every episode."""

    name = "toy"
    version = 1
    summary = "odd replies count"

    def __init__(self, opened: Callable[[Split, Example], None] = lambda *_: None) -> None:
        self.opened = opened

    def context(self) -> Context:
        return Context("Say it in an odd number of letters.")

    def examples(self, split: Split) -> Sequence[Example]:
        return [Example({"word": f"{split}{i}"}) for i in range(SIZES[split])]

    def open(self, example: Example, seed: int) -> Episode:
        split = next(s for s in SIZES if example.content["word"].startswith(s))
        self.opened(split, example)
        return ToyEpisode(example)

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        return [Floor("uniform", 0.5, "every second length")]

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        return BestPossible(1.0, "one letter is enough")


def toy_suite(model: Path, output: Path, **values: Any) -> Suite:
    """Six steps with an evaluation and a checkpoint at every second one; no retention."""
    base: dict[str, Any] = {
        "name": "toy",
        "methods": ["opcd_full"],
        "tasks": ["toy"],
        "model": str(model),
        "output_dir": str(output),
        "learning_rate": 1e-3,
        "max_steps": 6,
        "batch_size": 2,
        "eval_steps": 2,
        "save_steps": 2,
        "max_completion_length": 6,
        "retention": [],
        "threads": 1,
    }
    return make_suite({**base, **values}, "toy")


class Hinted(Toy):
    """Examples with a hint and a reference answer of their own."""

    def examples(self, split: Split) -> Sequence[Example]:
        return [
            Example(one.content, reference=f"ref {one.content['word']}", hint=f"hint {one.id}")
            for one in super().examples(split)
        ]


def truth(path: Path) -> dict[str, bytes]:
    """Every file of a run that must not depend on interruptions."""
    rows = [path / "train.jsonl.gz", path / "evals.jsonl.gz"]
    files = [*rows, *sorted((path / "samples").iterdir())]
    return {file.name: file.read_bytes() for file in files}
