"""One round of a chain: the student deploys, learns what to tell, and is taught it."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from opcd_bench import preemption
from opcd_bench.config.suite import Suite
from opcd_bench.distillation import sampling
from opcd_bench.envs import context_file
from opcd_bench.envs.task import Context, Contexts, Task
from opcd_bench.errors import CellFailed, EngineDied, LeaseLost, StoreError, UserError
from opcd_bench.evaluation import task_scores
from opcd_bench.experience.extract import Extraction
from opcd_bench.experience.folder import ExperienceDir
from opcd_bench.experience.prompts import Prompts, prompts_for
from opcd_bench.experience.reader import Reader, identity_of
from opcd_bench.experience.recipe import Extracted, Recipe
from opcd_bench.experience.replay import Replay, states_of
from opcd_bench.experience.select import Selection
from opcd_bench.experience.solve import drawn_examples, limited
from opcd_bench.hashing import digest
from opcd_bench.models.content import content_ids
from opcd_bench.models.loaded import LoadedModel
from opcd_bench.progress import Reporter
from opcd_bench.rollout.engine import Sampling
from opcd_bench.rollout.trajectory import Trajectory
from opcd_bench.runner import context_record, example_record, grid, prompt_record, stored_responses
from opcd_bench.runner.grid import Cell
from opcd_bench.runner.out_of_memory import explain_out_of_memory
from opcd_bench.runner.perform import run_cell
from opcd_bench.runner.plan import Plan
from opcd_bench.runner.refusals import (
    refuse_other_chains,
    refuse_other_settings,
    refuse_other_weights,
)
from opcd_bench.runner.resources import Resources, release
from opcd_bench.runner.rounds import chain as chains
from opcd_bench.runner.rounds.chain import Begin, Chain
from opcd_bench.store.chain_dir import EXPERIENCE
from opcd_bench.store.files import LOCK, explained
from opcd_bench.store.jsonl import Row
from opcd_bench.store.lease import Lease
from opcd_bench.store.run_reader import sealed
from opcd_bench.store.suite_dir import SuiteDir

ELSEWHERE = "Give another suite name with --name, or another folder with --output-dir"
"""What to type where something else lies in a round's place."""


class Round:
    """Round ``number`` of a chain, which begins from ``begin``; from wherever it was stopped."""

    def __init__(
        self,
        suite: Suite,
        suite_dir: SuiteDir,
        chain: Chain,
        number: int,
        begin: Begin,
        console: Reporter,
    ) -> None:
        self.suite, self.suite_dir, self.chain = suite, suite_dir, chain
        self.number, self.begin, self.console = number, begin, console
        self.folder = chain.folder(suite)
        self._lease: Lease | None = None
        self.plain = chains.settings(suite, chain, number, begin)
        self.experience = chains.experience_of(suite)
        # What is too long to be trained on is skipped, and counted, where it is attempted.
        own = self.plain.for_task(chain.task.name)
        length = self.experience.max_reflection_length
        self.recipe = Recipe.of(
            self.experience,
            solving=limited(sampling.reply_sampling(own), own.max_prompt_length),
            reflecting=Sampling(0.0, max_completion_length=length),
            batch=suite.rollout_batch_size,
            stream=("chain", chain.seed, "round", number),
        )

    def run(self) -> str | None:
        """Everything that is left of the round; what went wrong in one line, or None.

        What goes wrong before the cell is stored in the chain's folder, what goes wrong in the cell
        in its run. A model that cannot be loaded, and settings that cannot be used, raise.
        """
        with suppress(StoreError):  # it is met again below, where it can be recorded
            if self._is_done():
                return None
        with self._writing():
            try:
                if self._is_done():
                    return None
                chains.refuse_unusable(self.begin)
                self._refuse_others()
            except StoreError as error:
                return self._failed(self.number, error)
            return self._go_on()

    def _refuse_others(self) -> None:
        """Raise StoreError where the suite has finished rounds with other settings by now."""
        refuse_other_chains([self.chain.config], self.suite_dir)

    def cannot_follow(self, error: StoreError) -> str:
        """Record why the next round has nothing to begin from; its reason in one line."""
        with self._writing():
            return self._failed(self.number + 1, error)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """As the chain's only writer."""
        self.folder.describe(self.chain.config)
        with Lease(self.folder.path / LOCK) as lease:
            self._lease = lease
            yield

    def _failed(self, number: int, error: Exception) -> str:
        """Record why a round ended before its cell did, as a chain's writer; the reason."""
        if isinstance(error, CellFailed | UserError):
            problem = str(error)
        else:
            problem = f"{type(error).__name__}: {error}"
        self._check()
        self.folder.fail(number, problem, "".join(traceback.format_exception(error)))
        return problem

    def _check(self) -> None:
        """Before every write into the chain's folder: raise LeaseLost where it is another's."""
        assert self._lease is not None, "written by `run` alone"
        self._lease.check()

    def _is_done(self) -> bool:
        """Whether nothing is left of the round; the suite's list has it then."""
        record = self._record()
        if record is None or not sealed(self._run_dir(record)):
            return False
        self._seal(record)
        return True

    def _go_on(self) -> str | None:
        """All that is left, as the chain's only writer."""
        self.folder.forget_failure()
        self.console.note(f"{self.chain.name}: round {self.number} of {self.suite.rounds}")
        date = prompt_record.date_of(self.suite_dir)
        # First rounds begin from the same weights, so other chains may have what this one needs.
        round_dir = self.folder.round(self.number, self.suite_dir if self.number == 1 else None)
        round_dir.merge({})  # the folder is ours before shared rows are copied into it
        release()  # the models of the round before
        resources = Resources(self.plain, round_dir, self.console, date=date)
        resources.check([self.chain.method])
        self._check_prompts(resources)
        try:
            if (record := self._record()) is None:
                with explain_out_of_memory("writing", self.suite):
                    record = self._learn(resources)
            return self._consolidate(resources, record)
        except (EngineDied, LeaseLost):  # no other chain would go on either; it is another's now
            raise
        except Exception as error:  # the chain's edge: recorded whole and counted as failed
            if preemption.leaving():
                raise
            return self._failed(self.number, error)

    def run_dir(self) -> Path:
        """Where the round's run lies; its context must have been made."""
        record = self._record()
        assert record is not None, "a round has its context before it is run"
        return self._run_dir(record)

    def _run_dir(self, record: Row) -> Path:
        return self.folder.round(self.number).run(self._cell(record)[0].name)

    @cached_property
    def _prompts(self) -> Prompts:
        """How the student is asked for lessons."""
        return prompts_for(self.chain.task, self.suite.model, self.experience.prompts)

    def _check_prompts(self, resources: Resources) -> None:
        """Refuse what no round could be told by, before anything is attempted.

        What a context will say is not known yet: a stand-in is told where it will go. The first
        round's are the suite's, which has them stored.
        """
        task, first = self.chain.task, self.number == 1
        wanted = self.suite.for_task(task.name).context_placement
        own = self._prompts.told(["A lesson."])
        stand_in = task.telling(Contexts((Context(own.text, wanted or own.placement),)))
        if first:
            method, student = self.chain.method, resources.models.initial
            stored_responses.refuse_unfit(self.suite, [method], [task], student)
            refuse_other_weights(resources, self.suite_dir)
            resources.references.check_retention({task.name: task})
        stored = self.suite_dir if first else None
        console = self.console if first else None
        record = prompt_record.checked({task.name: stand_in}, resources.models, stored, console)
        if first:
            self.suite_dir.merge({**resources.models.weights(), **record})

    def _record(self) -> Row | None:
        """How the context was made; StoreError where it was by another student."""
        record = self.folder.record(self.number)
        if record is not None and record["begin_weights"] != self.begin.weights:
            raise StoreError(
                f"{self.folder.path}: round {self.number} started from a checkpoint that round "
                f"{self.number - 1} no longer has, so it does not belong to this chain. Run the "
                "chain again with another --name or --output-dir"
            )
        return record

    # --- what is told -------------------------------------------------------------------------

    def _learn(self, resources: Resources) -> Row:
        """Deploy, reflect, accumulate, select; the record of it, stored last."""
        task, loaded = self.chain.task, resources.models.initial
        own = self.plain.for_task(task.name)
        with resources.models.whole(loaded) as whole:
            told_apart = identity_of(self.suite.model, whole)
        identity = {
            **told_apart,
            **resources.models.computed(),
            "weights": resources.models.identity["weights"],  # whatever adapter lies beside
        }
        reader = Reader(loaded, resources.models.engine(loaded), identity)
        prompts = self._prompts
        folder = self._experience_folder(task, identity, prompts)
        with explained(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        # Chains that begin alike share their attempts; whoever comes second waits, and reads them.
        with Lease(folder.with_name(f"{folder.name}.lock"), wait=True) as lease:
            extraction = Extraction(
                task, self.recipe, prompts, reader, folder, self.console, ELSEWHERE
            )
            extracted = extraction.run()
            lease.check()
            chosen, paths = Selection(
                task,
                folder / self.recipe.variant,
                self.experience.select,
                self.chain.seed,
                limited(task_scores.eval_sampling(own), own.max_prompt_length),
                dev_items=own.dev_items,
                elsewhere=ELSEWHERE,
            ).run(self.folder.context(self.number), lambda: reader, self.console)
            lease.check()
        self._check()
        return self.folder.put_record(
            self.number,
            {
                "round": self.number,
                "begin_weights": self.begin.weights,
                "experience": folder.name,
                **_attempted(extraction, extracted),
                "chosen": list(chosen.names),
                "contexts": [_described(path, loaded) for path in paths],
            },
        )

    def _experience_folder(self, task: Task, identity: Any, prompts: Prompts) -> Path:
        recipe = {k: v for k, v in asdict(self.recipe).items() if k != "batch"}
        key = digest(
            {
                "task": [task.name, task.version, dict(task.options())],
                **task.source(),
                "model": dict(identity),
                "recipe": recipe,
                "prompts": prompts.describe(),
            }
        )
        return self.suite_dir.path / EXPERIENCE / f"{task.name}--{key}"

    # --- how it is taught ---------------------------------------------------------------------

    def _consolidate(self, resources: Resources, record: Row) -> str | None:
        """The round's cell, as any other; what went wrong in it, or None."""
        cell, planned = self._cell(record)
        round_dir = resources.suite_dir
        refuse_other_settings([cell], round_dir)
        refuse_other_weights(resources, round_dir)
        prompts = prompt_record.checked(planned.tasks, resources.models, round_dir)
        round_dir.merge(
            {
                **planned.suite.stored(),
                **resources.models.weights(),
                **prompts,
                **context_record.record(planned.tasks, resources.models),
                **context_record.told(planned.tasks),
                **self._examples,
            }
        )
        outcome = run_cell(cell, planned, resources, self.console, self._refuse_others)
        if outcome.problem is None:
            self._seal(record)
        return outcome.problem

    @cached_property
    def _examples(self) -> Row:
        """What suite.json says of the examples that a round is scored on."""
        return example_record.record({self.chain.task.name: self.chain.task}, self.plain)

    def _seal(self, record: Row) -> None:
        """Put what the round is made of into the suite's list: also where a kill came before."""
        round_dir = self.folder.round(self.number)
        if not self._examples.keys() <= round_dir.read().keys():
            round_dir.merge(self._examples)
        learnt = ExperienceDir(
            self.suite_dir.path / EXPERIENCE / record["experience"], self.recipe.variant
        )
        parts = [*self.folder.parts(self.number), *learnt.sealed(self.recipe.seeds)]
        missing = [part for part in parts if self.suite_dir.listed(part) is None]
        if missing:
            self.suite_dir.enlist(*missing)

    def _cell(self, record: Row) -> tuple[Cell, Plan]:
        """The round's cell, and the plan that it is run by."""
        chain = self.chain
        names = tuple(str(self.folder.path / one["file"]) for one in record["contexts"])
        told = chains.settings(self.suite, chain, self.number, self.begin, names)
        own = told.for_task(chain.task.name)
        task = context_file.told(chain.task, own.context, own.context_placement)
        if self.suite.consolidate == "replay":
            task = self._replay(task, record)
        cell = grid.cell(told, chain.method, task, chain.learning_rate, chain.seed)
        return cell, Plan(told, {chain.method.name: chain.method}, {task.name: task})

    def _replay(self, task: Task, record: Row) -> Task:
        """The task, trained on the states that the round's attempts visited."""
        folder = ExperienceDir(
            self.suite_dir.path / EXPERIENCE / record["experience"], self.recipe.variant
        )
        visited = []
        for seed in range(self.recipe.seeds):
            drawn = drawn_examples(task, seed, self.recipe.items, self.recipe.stream)
            for place, (attempt, example) in enumerate(
                zip(folder.attempts(seed), drawn, strict=True)
            ):
                if isinstance(attempt, Trajectory):
                    visited.append((f"s{seed:03d}/{place}", attempt, example))
        return Replay(task, states_of(visited))


def _attempted(extraction: Extraction, extracted: Sequence[Extracted]) -> dict[str, Any]:
    """What became of a round's attempts: their mean score plain, and what they cost."""
    statuses: Counter[str] = Counter()
    for one in extracted:
        statuses.update(one.statuses)
    played = [
        attempt
        for seed in extraction.drawn
        for attempt in extraction.folder.attempts(seed)
        if isinstance(attempt, Trajectory)
    ]
    scores = [one.grade.score or 0.0 for one in played if one.outcome != "failed"]
    replies = [turn.reply for one in played for turn in one.turns]
    reflected = [row for seed in extraction.drawn for row in extraction.folder.reflected(seed)]
    return {
        "attempts": dict(statuses),
        "deployed": sum(scores) / len(scores) if scores else None,
        "turns": len(replies),
        "tokens_attempted": sum(len(reply.ids) for reply in replies),
        "tokens_reflected": sum(row["reply_tokens"] for row in reflected),
        "lessons": sum(one.items for one in extracted),
    }


def _described(path: Path, loaded: LoadedModel) -> dict[str, Any]:
    """A context that a round tells, by file name; tokens are of its text alone."""
    made = context_file.read(path)
    ids = content_ids(loaded.tokenizer, made.text)
    return {"file": path.name, "items": len(made.items), "tokens": len(ids)}
