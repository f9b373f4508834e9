"""Rounds of extract, deploy and consolidate: every chain of a suite, as far as it goes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from opcd_bench import registry, retention, runner
from opcd_bench.config import Suite
from opcd_bench.errors import WorkerDied
from opcd_bench.experience import chain as chains
from opcd_bench.experience.chain import Begin, Chain
from opcd_bench.experience.round import Round
from opcd_bench.progress import QuietReporter, Reporter
from opcd_bench.report import rounds as tables
from opcd_bench.run_reader import RunReader
from opcd_bench.runner import Outcome, RunSummary
from opcd_bench.store import SuiteDir


def run(suite: Suite, *, console: Reporter) -> RunSummary:
    """Run every round that is not sealed yet (Online Experiential Learning, arXiv 2603.16856).

    In each round the student as it is attempts train examples plain, writes lessons from its own
    attempts, and is taught, by the suite's method, what it does when it is told them: an ordinary
    cell, whose frozen teacher is the student that entered the round. The next round begins from
    the checkpoint that the cell chose. The same call goes on where an earlier one stopped; more
    rounds may follow. A chain that fails ends there, with its reason in its folder, and the others
    go on. ``done`` and ``failed`` of the summary count rounds, those that were not reached too.
    """
    every = chains.chains(suite)
    ours = registry.plugin_files(registry.TASKS_PACKAGE)
    retention.check_names([name for name in suite.retention if name not in ours])
    suite_dir = SuiteDir(Path(suite.output_dir) / suite.name)
    suite_dir.merge(suite.model_dump(mode="json"))
    with console.phase(suite.name, len(every), "chains") as phase:
        for outcome in _outcomes(every, suite, suite_dir, console):
            if outcome.problem is not None:
                console.warn(f"{outcome.cell} failed: {outcome.problem}")
            phase.advance(1)
    runs = [run for one in every for run in one.folder(suite).runs()[: suite.rounds]]
    done = sum(RunReader(run).sealed for run in runs)
    total = len(every) * suite.rounds
    return RunSummary(
        suite_dir.path, done, total - done, total, tables.as_text(tables.read(suite_dir.path))
    )


def run_chain(one: Chain, suite: Suite, suite_dir: SuiteDir, console: Reporter) -> Outcome:
    """A chain to its last round, or to the first that fails."""
    begin = Begin()
    for number in range(1, suite.rounds + 1):
        current = Round(suite, suite_dir, one, number, begin, console)
        problem = current.run()
        if problem is not None:
            return Outcome(one.name, f"round {number}: {problem}")
        begin = chains.after(current.run_dir(), begin)
    return Outcome(one.name, None)


def _outcomes(
    every: Sequence[Chain], suite: Suite, suite_dir: SuiteDir, console: Reporter
) -> Iterator[Outcome]:
    """How each chain ended, one after the other or as they end, ``jobs`` at a time."""
    jobs = min(suite.jobs, len(every))
    if jobs <= 1:
        for one in every:
            yield run_chain(one, suite, suite_dir, console)
        return
    threads = suite.threads or max(1, (os.cpu_count() or 1) // jobs)
    shared = suite.model_copy(update={"threads": threads})
    with (
        runner.one_thread_library(threads),
        ProcessPoolExecutor(
            jobs, multiprocessing.get_context("spawn"), runner.serve_parent
        ) as pool,
    ):
        running = [pool.submit(_work, shared, place) for place in range(len(every))]
        try:
            for future in as_completed(running):
                yield future.result()
        except BrokenProcessPool:
            raise WorkerDied(
                "a worker process ended before its chain did: killed from outside, perhaps for "
                "want of memory, unless its own error stands above. Nothing is lost: type the "
                "same command again, with fewer --jobs if it happens again"
            ) from None


def _work(suite: Suite, place: int) -> Outcome:
    suite_dir = SuiteDir(Path(suite.output_dir) / suite.name)
    return run_chain(chains.chains(suite)[place], suite, suite_dir, QuietReporter())
