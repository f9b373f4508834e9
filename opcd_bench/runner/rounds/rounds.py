"""Rounds of extract, deploy and consolidate: every chain of a suite, as far as it goes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from opcd_bench.config.suite import Suite
from opcd_bench.errors import StoreError
from opcd_bench.evaluation import retention
from opcd_bench.progress import Reporter, worker_reporter, workers_say
from opcd_bench.runner import preflight, registry, shared_questions
from opcd_bench.runner.cluster.executor import drive
from opcd_bench.runner.cluster.jobs import Job, Outcome
from opcd_bench.runner.cluster.open import opened
from opcd_bench.runner.cluster.work import Work
from opcd_bench.runner.perform import changed_since, tell
from opcd_bench.runner.plan import plugins
from opcd_bench.runner.refusals import refuse_other_chains, refuse_other_judgement
from opcd_bench.runner.rounds import chain as chains
from opcd_bench.runner.rounds.chain import Begin, Chain
from opcd_bench.runner.rounds.round import Round
from opcd_bench.runner.suite_runner import RunSummary
from opcd_bench.store.run_reader import RunReader
from opcd_bench.store.suite_dir import SuiteDir
from opcd_bench.store.tidying import tidy


def run(suite: Suite, *, console: Reporter) -> RunSummary:
    """Run every round that is not sealed yet (Online Experiential Learning, arXiv 2603.16856).

    In each round the student as it is attempts train examples plain, writes lessons from its own
    attempts, and is taught, by the suite's method, what it does when it is told them: an ordinary
    cell, whose frozen teacher is the student that entered the round. The next round begins from
    the checkpoint that the cell chose. The same call goes on where an earlier one stopped; more
    rounds may follow. A chain that fails ends there, with its reason in its folder, and the others
    go on. ``done`` and ``failed`` of the summary count rounds, those that were not reached too.
    Bad input raises before anything is written.
    """
    planned = plugins(chains.untold(suite))
    shared_questions.refuse_at_hand(suite, planned.tasks)
    every = chains.chains_of(suite, planned.methods, planned.tasks)
    suite_dir = SuiteDir(Path(suite.output_dir) / suite.name)
    refuse_other_chains([one.config for one in every], suite_dir)
    refuse_other_judgement(suite, suite_dir)
    foreign = registry.foreign_retention(suite)
    retention.check_documents(
        foreign, suite.data_dir, suite.retention_items, suite.retention_max_completion_length
    )
    suite_dir.merge(suite.stored())
    tidy(suite_dir)
    for remark in preflight.remarks(suite, planned.tasks):
        console.warn(remark)
    with (
        console.phase(suite.name, len(every), "chains") as phase,
        closing(_outcomes(every, suite, suite_dir, console)) as outcomes,
    ):
        problems = set()
        for ended in outcomes:
            for outcome in ended:
                tell(outcome, console)
                problems |= {outcome.cell} if outcome.problem is not None else set()
            phase.advance(len(ended), **workers_say())
    done = 0
    for one in every:
        runs = one.folder(suite).runs()[: suite.rounds]
        # A round may be sealed and yet not go on from the one before, as it is now.
        whole = suite.rounds - (one.name in problems)
        done += min(sum(RunReader(run).sealed for run in runs), whole)
    total = len(every) * suite.rounds
    return RunSummary(suite_dir.path, done, total - done, total)


def run_chain(one: Chain, suite: Suite, suite_dir: SuiteDir, console: Reporter) -> Outcome:
    """A chain to its last round, or to the first that fails."""
    begin = Begin()
    for number in range(1, suite.rounds + 1):
        current = Round(suite, suite_dir, one, number, begin, console)
        problem = current.run()
        if problem is not None:
            return Outcome(one.name, f"round {number}: {problem}")
        if number < suite.rounds:
            try:
                begin = chains.after(current.run_dir(), begin, current.folder.record(number + 1))
            except StoreError as error:
                return Outcome(one.name, f"round {number + 1}: {current.cannot_follow(error)}")
    return Outcome(one.name, None)


def _outcomes(
    every: Sequence[Chain], suite: Suite, suite_dir: SuiteDir, console: Reporter
) -> Generator[list[Outcome], None, None]:
    """How chains ended, one after the other or as they end, ``jobs`` at a time; perhaps none."""
    jobs = min(suite.jobs, len(every))
    if jobs <= 1 and suite.cluster == "local":
        for one in every:
            yield [run_chain(one, suite, suite_dir, console)]
        return
    todo = [Job("chain", one.name, place) for place, one in enumerate(every)]
    retries = suite.cluster_options.retries
    with opened(suite, suite_dir.path, jobs, Work(__name__)) as executor:
        yield from drive(executor, todo, retries=retries, console=console)


def load(suite: Suite) -> tuple[Suite, Sequence[Chain]]:
    """What a process needs to run chains of a suite."""
    return suite, chains.chains(suite)


def do(job: Job, held: tuple[Suite, Sequence[Chain]]) -> Outcome:
    """A chain, and what was to be said meanwhile."""
    suite, every = held
    if every[job.what].name != job.name:
        return Outcome(job.name, changed_since())
    suite_dir = SuiteDir(Path(suite.output_dir) / suite.name)
    console = worker_reporter()
    outcome = run_chain(every[job.what], suite, suite_dir, console)
    return replace(outcome, warnings=tuple(console.warnings))
