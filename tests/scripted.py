"""A task and a model that answers by rule, for all that extracts and selects contexts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
from opcd_bench.experience.reader import Reader
from opcd_bench.rollout.engine import Reply, Request, Sampling

SIZES = {"train": 20, "dev": 40, "test": 10}
SECRET = "reference-of"
"""What begins every reference answer: no prompt that a reflection reads may hold it."""


class CodeEpisode(Episode):
    """Right if the reply has the rule's name, which only a context tells."""

    def __init__(self, example: Example, feedback: str) -> None:
        self.example, self._feedback, self.reply = example, feedback, ""
        self.messages = [{"role": "user", "content": f"Code of {example.content['n']}?"}]

    def step(self, reply: str) -> Turn:
        self.reply = reply
        return Turn((), done=True)

    def grade(self) -> Grade:
        right = f"rule{self.example.content['n'] % 4}" in self.reply
        return Grade(float(right), self.reply, f"{self.example.reference} is right")

    def feedback(self) -> str:
        return self._feedback.format(n=self.example.content["n"], ref=self.example.reference)


class Codes(Task):
    """Opening an example of a split that is not in ``may_read``, or listing it, is an error."""

    name, version, summary = "codes", 1, "codes of numbers"

    def __init__(
        self, may_read: Sequence[str] = ("train", "dev"), feedback: str = "{n} it is."
    ) -> None:
        self.may_read, self.feedback = may_read, feedback
        self.read: set[str] = set()

    def context(self) -> Context:
        return Context("a code is a rule")

    def examples(self, split: Split) -> Sequence[Example]:
        self.read.add(split)
        if split not in self.may_read:
            raise AssertionError(f"{split} was read")
        start = list(SIZES).index(split) * 100
        return [
            Example({"n": start + i}, reference=f"{SECRET}-{start + i}", hint=f"hint{start + i}")
            for i in range(SIZES[split])
        ]

    def open(self, example: Example, seed: int) -> Episode:
        return CodeEpisode(example, self.feedback)

    def floors(self, examples: Sequence[Example]) -> Sequence[Floor]:
        return [Floor("none", 0.0, "nothing is guessed")]

    def best_possible(self, examples: Sequence[Example]) -> BestPossible:
        return BestPossible(1.0, "by construction")


class Scripted:
    """An engine that answers each prompt by ``answer(prompt text, seed)``; keeps what it was asked.

    ``stop_after`` prompts it is interrupted, as by ctrl-C.
    """

    def __init__(
        self,
        loaded: object,
        answer: Callable[[str, int], str],
        stop_after: int | None = None,
        finish: str = "stop",
    ) -> None:
        self.loaded, self.answer, self.stop_after, self.finish = loaded, answer, stop_after, finish
        self.asked: list[str] = []
        self.batches: list[int] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Reply]:
        self.batches.append(len(requests))
        replies = []
        for request in requests:
            if self.stop_after is not None and len(self.asked) >= self.stop_after:
                raise KeyboardInterrupt
            prompt = self.loaded.tokenizer.decode(list(request.prompt_ids))
            self.asked.append(prompt)
            text = self.answer(prompt, request.seed)
            ids = tuple(self.loaded.tokenizer(text, add_special_tokens=False)["input_ids"])
            replies.append(Reply((*ids, 2), (-0.5,) * (len(ids) + 1), text, self.finish))
        return replies


def reader(loaded: object, answer: Callable[[str, int], str], **settings: object) -> Reader:
    """A scripted engine as the model that attempts, reflects and is scored."""
    return Reader(loaded, Scripted(loaded, answer, **settings), {"model": "scripted"})


__all__ = ["SECRET", "SIZES", "Codes", "Scripted", "reader"]
