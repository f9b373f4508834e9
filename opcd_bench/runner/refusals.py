"""What a suite's folder refuses: runs that could not stand in one table with those it has."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from opcd_bench.config import headline_rule
from opcd_bench.config.suite import Suite
from opcd_bench.distillation.method import Method
from opcd_bench.envs.task import Task
from opcd_bench.errors import StoreError
from opcd_bench.hashing import canonical
from opcd_bench.runner import grid
from opcd_bench.runner.protocols import Protocols
from opcd_bench.runner.resources import Resources
from opcd_bench.store import chain_dir, environment
from opcd_bench.store.files import removal
from opcd_bench.store.jsonl import Row
from opcd_bench.store.run_reader import CONFIG, RunReader, sealed
from opcd_bench.store.suite_dir import SuiteDir

PROTOCOL = ("task", "split", "metric", "protocol_hash")
"""Of a stored score all that says what it was measured under."""


def refuse_other_weights(resources: Resources, suite_dir: SuiteDir) -> None:
    """Raise StoreError where the folder's runs began from other weights of the same name."""
    stored = suite_dir.read()
    names = {"weights": resources.suite.model, "larger_weights": resources.suite.teacher_model}
    for key, now in resources.models.weights().items():
        before = stored.get(key)
        if before is not None and before != now:
            raise StoreError(
                f"{suite_dir.path}: its runs were made with other weights of {names[key]!r} "
                f"(SHA-256 {before[:10]}…, now {now[:10]}…), and cannot stand in one table with "
                "new ones. Give another suite name with --name, or another folder with "
                "--output-dir, or the model as it was"
            )


def refuse_other_protocols(resources: Resources, task: Task, waiting: Collection[Path]) -> None:
    """Raise StoreError where runs of a task would be measured otherwise than what they stand with.

    That is the folder's finished runs, and what those ``waiting`` have begun with. Before they
    train: the comparison would refuse them after it. A finished run that is damaged is left to
    `damaged`. Documents are read only where there is something to compare.
    """
    begun = [path for path in waiting if (path / CONFIG).is_file()]
    paths = dict.fromkeys([*begun, *filter(sealed, resources.suite_dir.runs())])
    protocols = resources.references.protocols
    stored = {path: rows for path in paths if (rows := _measured(path, protocols))}
    now = protocols.of_cells(task) if stored else {}
    for path, rows in stored.items():
        for row in rows:
            under = now.get((row["task"], row["split"]))
            if under is None or under.is_of(row["metric"], row["protocol_hash"]):
                continue
            away = f", or remove the run that was begun: {removal(path)}" if path in begun else ""
            raise StoreError(
                f"{path}: {row['task']} ({row['split']}) was measured under another protocol than "
                f"it would be now ({row['protocol_hash']}, now {under.hash}), and the two cannot "
                "stand in one table: its documents or examples, the chat template or the version "
                "of lm-eval were changed. Put them back as they were, or give another suite name "
                f"with --name, or another folder with --output-dir{away}"
            )


def _measured(path: Path, protocols: Protocols) -> list[Row]:
    """`PROTOCOL` of a run's primary scores; nothing of a finished one that is damaged.

    A finished one is read once a process: every cell asks.
    """
    if path in protocols.of_runs:
        return protocols.of_runs[path]
    reader, rows = RunReader(path), list[Row]()
    with contextlib.suppress(StoreError) if reader.sealed else contextlib.nullcontext():
        for row in reader.read("evals"):
            if row["primary"]:
                rows.append({name: row[name] for name in PROTOCOL})
    if reader.sealed:
        protocols.of_runs[path] = rows
    return rows


def damaged(suite_dir: SuiteDir) -> Iterator[str]:
    """What to say of each finished run of which a file is damaged, and what to type."""
    for path in filter(sealed, suite_dir.runs()):
        try:
            RunReader(path).refuse_damage()
        except StoreError as error:
            yield f"{error}. The other runs go on meanwhile"


def refuse_other_settings(cells: Sequence[grid.Cell], suite_dir: SuiteDir) -> None:
    """Raise StoreError where finished cells of the folder could not stand in a table with these.

    Before any work, and again before each cell and each seal: the comparison would refuse them
    after it.
    """
    configs = [json.loads(canonical(dict(cell.config))) for cell in cells]
    shared = {c["task"]["name"]: {k: c[k] for k in ("suite", "task")} for c in configs}
    own = {(c["task"]["name"], c["method"]["name"]): {"method": c["method"]} for c in configs}
    adapted = {(c["task"]["name"], _adapts(c)): c["adapted"] for c in configs if "adapted" in c}
    for path, stored in suite_dir.finished().items():
        task = stored["task"]["name"]
        now = shared.get(task, {}) | own.get((task, stored["method"]["name"]), {})
        if "adapted" in stored:  # one teacher for all that are taught by one adapted so
            now |= {"adapted": adapted.get((task, _adapts(stored)), stored["adapted"])}
        if changed := environment.differences({key: stored[key] for key in now}, now):
            raise mixed(path, f"run of {task}", changed)


def refuse_other_chains(configs: Iterable[Mapping[str, Any]], suite_dir: SuiteDir) -> None:
    """Raise StoreError where stored chains with numbers could not stand in a table with these.

    Before any work: the table would refuse them after it.
    """
    asked: dict[tuple[str, ...], Row] = {}
    for config in configs:
        now = json.loads(canonical(dict(config)))
        asked |= {key: now for key in chain_dir.compared(now)}
    for stored in chain_dir.chains(suite_dir.path):
        if not stored.counts:
            continue
        before = stored.config()
        for key in chain_dir.compared(before):
            if key in asked and (changed := chain_dir.other_settings(before, asked[key])):
                raise mixed(stored.path, f"chain of {before['task']['name']}", changed)


def refuse_other_teachers(resources: Resources, method: Method, task: Task, seed: int) -> None:
    """Raise StoreError where finished runs learnt from other weights of a method's adapted teacher.

    It has been prepared: perhaps anew, and two that were adapted alike can teach 20 points apart.
    """
    adapted, finished = resources.adapted, resources.suite_dir.finished()
    for part in method.parts:
        if part.teacher.by is None:
            continue
        for run in adapted.learners(part.teacher, task, seed):
            described = finished[run]["method"]
            if resources.references.other_teacher(run, described, part.teacher, task, seed):
                raise StoreError(
                    f"{run} learnt from an adapted teacher of other weights than "
                    f"{adapted.path(part.teacher, task, seed)} has now, and two teachers of one "
                    "name must not stand in one table. Put that teacher back from a copy, or give "
                    "another suite name with --name, or another folder with --output-dir, under "
                    "which one teacher teaches all"
                )


def _adapts(config: Mapping[str, Any]) -> str:
    """The name of the method that adapts a cell's teacher."""
    return str(config["adapted"]["method"]["name"])


def refuse_other_judgement(suite: Suite, suite_dir: SuiteDir) -> None:
    """Raise StoreError where finished runs were to be judged by another rule, margin or claim.

    Chosen after the results are seen, any would be chosen by them. Rounds are judged by no claim.
    """
    stored = suite_dir.read()
    cells = any(map(sealed, suite_dir.runs()))
    if not cells and not any(chain.counts for chain in chain_dir.chains(suite_dir.path)):
        return
    claims = suite.model_dump(mode="json")["claims"]
    if cells and stored.get("claims", claims) != claims:
        raise StoreError(
            f"{suite_dir.path}: its finished runs are judged by the claims that were stated before "
            "them, and now others are. Keep those, or give another suite name with --name"
        )
    fixed = isinstance(stored.get("headline_learning_rate"), float)
    swept = len(stored.get("learning_rate", [])) > 1 and not fixed
    before = {
        "headline_rule": headline_rule.rule_of(stored) if swept else suite.headline_rule,
        "equivalence_margin": stored.get("equivalence_margin", suite.equivalence_margin),
    }
    for name, value in before.items():
        now = getattr(suite, name)
        if now != value:
            raise StoreError(
                f"{suite_dir.path}: its finished runs are judged by {name} = {value}, which is "
                f"fixed before the runs; now {now} is asked for. Keep it (--set {name}={value}), "
                "or give another suite name with --name"
            )


def mixed(path: Path, finished: str, changed: Sequence[str]) -> StoreError:
    """The refusal of settings: ``changed`` are those that what is ``finished`` has otherwise."""
    return StoreError(
        f"{path}: a finished {finished} has other settings than are asked for now, and one table "
        "must not mix them (stored -> now):\n"
        + "\n".join(f"  {line}" for line in changed)
        + "\nGive another --name or --output-dir"
    )
