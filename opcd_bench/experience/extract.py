"""From a model's own attempts to contexts: solve, reflect, parse, accumulate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from opcd_bench.config.experience import Stage
from opcd_bench.distillation.stored_replies import row_of
from opcd_bench.envs.context_file import ContextFile
from opcd_bench.envs.task import Context, Task
from opcd_bench.errors import DataError
from opcd_bench.experience.folder import ELSEWHERE, TRACES, ExperienceDir
from opcd_bench.experience.items import accumulated
from opcd_bench.experience.prompts import Prompts
from opcd_bench.experience.reader import Reader
from opcd_bench.experience.recipe import Extracted, Recipe
from opcd_bench.experience.reflect import STATUSES, Asked, readable, reflections
from opcd_bench.experience.solve import attempts, drawn_examples
from opcd_bench.experience.trace import Trace, TraceTurn
from opcd_bench.hashing import digest
from opcd_bench.models.content import content_ids
from opcd_bench.models.prompts import prompt_ids, told_ids
from opcd_bench.progress import Reporter
from opcd_bench.seeds import seed_of
from opcd_bench.store.jsonl import Row, joined, read_rows
from opcd_bench.version import __version__


class Extraction:
    """One task, model and recipe in one folder; every stage goes on where it was stopped.

    Only train is read. Raises DataError where it is empty. ``elsewhere``: what to type where it
    cannot be in ``out``.
    """

    def __init__(
        self,
        task: Task,
        recipe: Recipe,
        prompts: Prompts,
        reader: Reader,
        out: Path,
        console: Reporter,
        elsewhere: str = ELSEWHERE,
    ) -> None:
        self.task, self.recipe, self.prompts = task, recipe, prompts
        self.reader, self.console = reader, console
        self.folder = ExperienceDir(out, recipe.variant, elsewhere)
        self.raw = recipe.variant == "raw-traces"
        self.drawn = {
            s: drawn_examples(task, s, recipe.items, recipe.stream) for s in range(recipe.seeds)
        }

    def trace_settings(self) -> dict[str, Any]:
        """All that the attempts depend on; more seeds may join them."""
        return {
            "task": self.task.name,
            "task_version": self.task.version,
            "options": dict(self.task.options()),
            **self.task.source(),
            "model": dict(self.reader.identity),
            "items": self.recipe.items,
            "sampling": asdict(self.recipe.solving),
            **({"stream": list(self.recipe.stream)} if self.recipe.stream else {}),
        }

    def variant_settings(self) -> dict[str, Any]:
        """All that the contexts depend on; the attempts by the hash of their settings."""
        return {
            "traces": digest(self.trace_settings()),
            "variant": self.recipe.variant,
            "accumulate": self.recipe.accumulate,
            "max_context_tokens": self.recipe.max_context_tokens,
            "prompts": self.prompts.describe(),
            "reflecting": None if self.raw else asdict(self.recipe.reflecting),
        }

    def run(self, until: Stage = "contexts") -> list[Extracted]:
        """Every stage up to ``until``; what became of each seed, if its context is made.

        Raises StoreError where the folder holds an extraction with other settings, or is being
        written; DataError where not one item came of all the attempts.
        """
        folder = self.folder
        folder.open()
        with folder.writing():
            folder.clean()
            folder.same_settings(TRACES, self.trace_settings())
            self.rehearse()
            self.solve()
            if until == "traces":
                return []
            folder.same_settings(self.recipe.variant, self.variant_settings())
            if not self.raw:
                self.reflect()
            if until == "reflections":
                return []
            self.parse()
            return self.accumulate() if until == "contexts" else []

    def rehearse(self) -> None:
        """Make a prompt of each kind, so that a chat template that refuses one does so by now.

        DataError where it does, or leaves out what is told.
        """
        example = next(iter(self.drawn.values()))[0]
        asked = list(self.task.open(example, 0).messages)
        reader, context = self.reader.loaded, self._context(["A lesson."])
        told_ids(reader, asked, context)
        if not self.raw:
            trace = Trace(example.id, (TraceTurn(tuple(asked), "Answer: 0"),), "It is wrong.")
            for previous in ((), ("A lesson.",)):
                prompt_ids(reader, self.prompts.reflection(trace, previous))

    # --- stages -------------------------------------------------------------------------------

    def solve(self) -> None:
        """Plain attempts, whole seeds at a time: rows that a ``stored`` writer reads too."""
        items, seeds = self.recipe.items, self.recipe.seeds
        together = max(1, self.recipe.batch // items)
        with self._phase("attempt without context") as phase:
            for first in range(0, seeds, together):
                # The same seeds together, whatever is there already: batch mates change round-off.
                group = range(first, min(first + together, seeds))
                missing = [s for s in group if not self.folder.trace_file(s).exists()]
                if missing:
                    drawn = [(s, self.drawn[s]) for s in group]
                    played = attempts(
                        self.task,
                        drawn,
                        self.reader.loaded,
                        self.reader.engine,
                        self.recipe.solving,
                        self.recipe.stream,
                    )
                    for seed in missing:
                        at = (seed - first) * items
                        rows = map(row_of, played[at : at + items])
                        self.folder.put(self.folder.trace_file(seed), joined(rows))
                phase.advance(items * len(group))

    def reflect(self) -> None:
        """The lessons of each attempt: a row as soon as its batch is written."""
        with self._phase("reflect") as phase:
            for batch in self._batches():
                have = {
                    seed: len(self.folder.reflected(seed)) for seed in {seed for seed, _ in batch}
                }
                if all(position < have[seed] for seed, position in batch):
                    phase.advance(len(batch))
                    continue
                # The whole batch, whatever of it is there already: batch mates change round-off.
                found = reflections(
                    self._asked(batch),
                    self.prompts,
                    self.reader.loaded,
                    self.reader.engine,
                    self.recipe.reflecting,
                )
                for (seed, position), one in zip(batch, found, strict=True):
                    if position >= have[seed]:
                        row = {**one.to_json(), "seed": seed, "position": position}
                        self.folder.reflect(seed, row)
                phase.advance(len(batch), items=sum(len(one.items) for one in found))

    def parse(self) -> None:
        """What a context is made of: a row a lesson (or a trace), oldest first."""
        for seed in self.drawn:
            rows = self._traces(seed) if self.raw else self._lessons(seed)
            self.folder.put(self.folder.file("items", seed), joined(rows))

    def accumulate(self) -> list[Extracted]:
        """The contexts; DataError where no seed has a single item."""
        found = [self._accumulate(seed) for seed in self.drawn]
        if not any(one.path for one in found):
            count = self.recipe.seeds * self.recipe.items
            where = self.folder.file("reflections", 0).parent
            raise DataError(
                f"task {self.task.name!r}: {count} attempts gave no lesson at all. Read the "
                f"reflections in {where}. A lesson is a line that begins with '- EXPERIENCE "
                "ITEM:'; if reflections are cut off before one, raise --max-reflection-length, or "
                "of a suite [experience] max_reflection_length (now "
                f"{self.recipe.reflecting.max_completion_length})"
            )
        return found

    def _accumulate(self, seed: int) -> Extracted:
        items = [row["item"] for row in read_rows(self.folder.file("items", seed))]
        kept = self._kept(items)
        statuses = self._statuses(seed)
        if not kept:
            self.console.warn(f"seed {seed}: its attempts gave no lesson, so it has no context")
            return Extracted(seed, None, statuses, 0, 0, 0)
        context, path = self._context(kept), self.folder.context(seed)
        made = ContextFile(context.text, context.placement, kept, self._provenance(seed))
        self.folder.put_context(seed, made)
        return Extracted(seed, path, statuses, len(items), len(kept), self._tokens(kept))

    # --- what the stages need -----------------------------------------------------------------

    def _phase(self, name: str) -> Any:
        total = self.recipe.seeds * self.recipe.items
        return self.console.phase(f"{self.task.name}: {name}", total, "attempts")

    def _batches(self) -> Iterator[list[tuple[int, int]]]:
        """Batches of all (seed, position); with-previous goes position by position."""
        places = [(seed, at) for seed in self.drawn for at in range(self.recipe.items)]
        groups = [places]
        if self.recipe.variant == "with-previous":
            groups = [[p for p in places if p[1] == at] for at in range(self.recipe.items)]
        for group in groups:
            for first in range(0, len(group), self.recipe.batch):
                yield group[first : first + self.recipe.batch]

    def _asked(self, batch: Sequence[tuple[int, int]]) -> list[Asked]:
        stored = {seed: self.folder.attempts(seed) for seed in {seed for seed, _ in batch}}
        found = []
        for seed, position in batch:
            example = self.drawn[seed][position]
            previous: tuple[str, ...] = ()
            if self.recipe.variant == "with-previous":
                previous = self._kept([row["item"] for row in self._lessons(seed, position)])
            noise = seed_of(
                "reflect", self.task.name, seed, position, example.id, *self.recipe.stream
            )
            found.append(Asked(stored[seed][position], example, noise, previous))
        return found

    def _lessons(self, seed: int, before: int | None = None) -> list[Row]:
        """The lessons of a seed's attempts, all or those before a position."""
        return [
            {"example_id": row["example_id"], "item": item}
            for row in self.folder.reflected(seed)[:before]
            for item in row["items"]
        ]

    def _traces(self, seed: int) -> list[Row]:
        found: list[Row] = []
        for attempt, example in zip(self.folder.attempts(seed), self.drawn[seed], strict=True):
            trace = readable(attempt, example)
            if isinstance(trace, Trace):
                found.append({"example_id": example.id, "item": self.prompts.raw(trace)})
        return found

    def _statuses(self, seed: int) -> dict[str, int]:
        seen = [row["status"] for row in self.folder.reflected(seed)]
        if self.raw:
            pairs = zip(self.folder.attempts(seed), self.drawn[seed], strict=True)
            read = [readable(*pair) for pair in pairs]
            seen = ["read" if isinstance(one, Trace) else one for one in read]
        return {status: seen.count(status) for status in STATUSES}

    def _context(self, items: Sequence[str]) -> Context:
        return self.prompts.told_raw(items) if self.raw else self.prompts.told(items)

    def _tokens(self, items: Sequence[str]) -> int:
        text = self._context(items).text
        return len(content_ids(self.reader.loaded.tokenizer, text))

    def _kept(self, items: Sequence[str]) -> tuple[str, ...]:
        recipe = self.recipe
        return accumulated(items, recipe.accumulate, recipe.max_context_tokens, self._tokens)

    def _provenance(self, seed: int) -> dict[str, Any]:
        return {
            **self.trace_settings(),
            **self.variant_settings(),
            "seed": seed,
            "split": "train",
            "examples": [example.id for example in self.drawn[seed]],
            "attempts": self._statuses(seed),
            "files": self.folder.files(seed),
            "opcd_bench": __version__,
        }
