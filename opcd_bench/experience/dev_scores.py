"""Scores of contexts on the first examples of dev, each made once and stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from opcd_bench.envs.task import Context, Example, Task
from opcd_bench.errors import DataError
from opcd_bench.evaluation.scores import UNSCORED, score_of
from opcd_bench.evaluation.task_scores import sample_row
from opcd_bench.experience.reader import Reader
from opcd_bench.experience.solve import most_of
from opcd_bench.hashing import digest
from opcd_bench.rollout.engine import Sampling
from opcd_bench.rollout.episodes import play
from opcd_bench.rollout.trajectory import Trajectory
from opcd_bench.seeds import seed_of
from opcd_bench.store.suite_dir import SharedDir

PLAIN = "plain"
"""What the score without any context is called."""


class DevScores:
    """Nothing but dev is read; ``folder`` is for the samples: rows as evaluation keeps them.

    The noise of a sample depends on (task, ``seed``, example): contexts are compared in pairs.
    """

    def __init__(
        self,
        task: Task,
        contexts: Mapping[str, Context],
        reader: Reader,
        sampling: Sampling,
        seed: int,
        folder: Path,
    ) -> None:
        self.task, self.reader, self.sampling = task, reader, sampling
        self.contexts: dict[str, Context | None] = {**contexts, PLAIN: None}
        self.seed = seed
        self.examples: Sequence[Example] = task.examples("dev")
        key = digest(
            {
                "task": [task.name, task.version, dict(task.options())],
                **task.source(),
                "model": dict(reader.identity),
                "sampling": asdict(sampling),
                "seed": seed,
                "dev": digest([example.id for example in self.examples]),
            }
        )
        self.shared = SharedDir(folder / f"scores-{key}")
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in self.contexts}

    def score(self, names: Sequence[str], items: int) -> dict[str, float]:
        """The mean score of each context on the first ``items`` examples; plays what is missing.

        All that is missing is one batch. What is not right counts 0, a prompt that is too long to
        be read with this context too; DataError where nothing at all could be scored.
        """
        pieces = {name: self._piece(name, items) for name in names if self._begin(name) < items}
        missing = [name for name, piece in pieces.items() if not self.shared.has(piece)]
        for name, rows in self._played(missing, items).items():
            self.shared.put(pieces[name], rows)
        for name, piece in pieces.items():
            self.rows[name] += self.shared.get(piece)
        return {name: self._mean(name, items) for name in names}

    def _begin(self, name: str) -> int:
        return len(self.rows[name])

    def _piece(self, name: str, items: int) -> str:
        context = self.contexts[name]
        told = PLAIN if context is None else context.hash
        return f"{told}-{self._begin(name):05d}-{items:05d}"

    def _mean(self, name: str, items: int) -> float:
        rows = self.rows[name][:items]
        if all(row["outcome"] in UNSCORED for row in rows):
            raise DataError(
                f"context {name}: none of {items} dev examples of task {self.task.name!r} could "
                f"be scored. The reason of the first: {rows[0]['why']}"
            )
        return sum(score_of(row) or 0.0 for row in rows) / len(rows)

    def _played(self, names: Sequence[str], items: int) -> dict[str, list[dict[str, Any]]]:
        places = [(n, example) for n in names for example in self.examples[self._begin(n) : items]]
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        told = [place for place in places if self.contexts[place[0]] is not None]
        plain = [place for place in places if self.contexts[place[0]] is None]
        for group, context in (
            (told, [c for name, _ in told if (c := self.contexts[name]) is not None]),
            (plain, None),
        ):
            noise = [(self.task.name, self.seed, example.id) for _, example in group]
            played = play(
                self.task,
                [example for _, example in group],
                self.reader.engine,
                self.reader.loaded,
                self.sampling,
                seeds=[seed_of("select", *name) for name in noise],
                env_seeds=[seed_of("environment", *name) for name in noise],
                context=context,
                max_prompt_length=most_of(self.sampling),
                overlong="skip",
            )
            for (name, _), result in zip(group, played, strict=True):
                turns = result.turns if isinstance(result, Trajectory) else ()
                row = sample_row(self.task, "dev", context is not None, 0, result)
                read = sum(len(turn.prompt_ids) for turn in turns)
                found[name].append({**row, "prompt_tokens": read})
        return found

    def cost(self) -> dict[str, int]:
        """Samples scored, tokens read and written."""
        rows = [row for found in self.rows.values() for row in found]
        return {
            "samples": len(rows),
            "prompt_tokens": sum(row["prompt_tokens"] for row in rows),
            "tokens_written": sum(row["tokens"] for row in rows),
        }
