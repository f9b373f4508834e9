"""Runs the cells of a suite; a cell that fails is recorded, and the others go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from opcd_bench.config.headline_rule import DevScore
from opcd_bench.config.suite import Suite
from opcd_bench.envs.overlap import between_splits
from opcd_bench.envs.task import Task
from opcd_bench.evaluation import retention
from opcd_bench.progress import Reporter
from opcd_bench.runner import context_record, example_record, grid, registry
from opcd_bench.runner.hands import opened
from opcd_bench.runner.plan import plan
from opcd_bench.runner.refusals import refuse_other_judgement, refuse_other_settings
from opcd_bench.runner.time_shares import shares_of, time_shares
from opcd_bench.store.run_reader import CONFIG, FINAL, RunReader, sealed
from opcd_bench.store.suite_dir import SuiteDir


@dataclass(frozen=True)
class RunSummary:
    """What a run came to: cells (of a suite of chains, rounds) done and failed of all.

    ``unscored``: how many of those done could not be interpolated, though it was asked for.
    """

    suite_dir: Path
    done: int
    failed: int
    total: int
    unscored: int = 0


def run(suite: Suite, *, console: Reporter) -> RunSummary:
    """Run every cell that is not sealed yet; the same call goes on where an earlier one stopped.

    Bad input raises before anything is written. A failing cell leaves its reason in its run
    directory, and the others go on. KeyboardInterrupt leaves everything resumable.
    """
    planned = plan(suite)
    cells = grid.cells(suite, planned.methods, planned.tasks)
    root = Path(suite.output_dir) / suite.name
    suite_dir = SuiteDir(root)
    refuse_other_settings(cells, suite_dir)
    refuse_other_judgement(suite, suite_dir)
    retention.check_documents(
        registry.foreign_retention(suite),
        suite.data_dir,
        suite.retention_items,
        suite.retention_max_completion_length,
    )
    with opened(planned, suite_dir, console) as hands:
        suite_dir.merge(example_record.record(planned.tasks, suite))
        hands.do_all(cells)
        if suite.headline_learning_rate == "dev":
            rates = grid.headline_rates(suite, dev_scores(cells, suite_dir))
            for (task, method), missing in unfinished(cells, suite_dir).items():
                rates.pop((task, method), None)
                console.warn(_no_choice(task, method, missing))
            more = grid.headline_cells(suite, planned.methods, planned.tasks, rates)
            hands.do_all(more)
            cells += more
        unscored = 0
        if suite.entrants or suite.interpolate:
            unscored = hands.score_entrants(
                [cell for cell in cells if sealed(suite_dir.run(cell.name))]
            )
    suite_dir.merge(context_record.told(planned.tasks))
    if shared := overlaps(planned.tasks):
        suite_dir.merge({"overlap": shared})
    done = sum(sealed(suite_dir.run(cell.name)) for cell in cells)
    runs = [suite_dir.run(cell.name) for cell in cells]
    if shares := time_shares(RunReader(path) for path in runs if (path / CONFIG).is_file()):
        console.note(f"time of all cells, {shares}")
    if shares := shares_of(hands.shared_seconds):
        console.note(f"time of what they share, beside them, {shares}")
    return RunSummary(
        suite_dir=root,
        done=done,
        failed=len(cells) - done,
        total=len(cells),
        unscored=unscored,
    )


def unfinished(cells: Sequence[grid.Cell], suite_dir: SuiteDir) -> dict[tuple[str, str], list[str]]:
    """(task, method) -> the names of those cells of its sweep that another attempt may finish."""
    found: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        path = suite_dir.run(cell.name)
        failure = RunReader(path).failure() if (path / CONFIG).is_file() else None
        if not sealed(path) and not (failure or {}).get(FINAL):
            found.setdefault((cell.task, cell.method), []).append(cell.name)
    return found


def _no_choice(task: str, method: str, missing: Sequence[str]) -> str:
    return (
        f"{task} {method}: its learning rate is not chosen and its other seeds are not run, since "
        f"cells of the sweep are not done ({', '.join(missing)}). Type the same command again"
    )


def overlaps(tasks: Mapping[str, Task]) -> dict[str, dict[str, int]]:
    """Test questions that train asks too, of each task with questions that words tell apart."""
    found = {name: between_splits(task) for name, task in tasks.items()}
    return {name: asdict(one) for name, one in found.items() if one.of}


def dev_scores(
    cells: Sequence[grid.Cell], suite_dir: SuiteDir
) -> dict[tuple[str, str, float], list[DevScore]]:
    """(task, method, rate) -> dev accuracy of each sealed run at the step that it chose."""
    found: dict[tuple[str, str, float], list[DevScore]] = {}
    for cell in cells:
        path = suite_dir.run(cell.name)
        if not sealed(path):
            continue
        reader = RunReader(path)
        chosen = reader.summary["chosen_step"]
        for row in reader.read("evals"):
            if row["split"] != "dev" or row["value"] is None:
                continue
            if row["primary"] and row["step"] == chosen:
                key = (cell.task, cell.method, cell.learning_rate)
                score = DevScore(row["value"], row["n"] - row["n_unscored"])
                found.setdefault(key, []).append(score)
    return found
