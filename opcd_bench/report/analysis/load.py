"""Stored results as data frames; no other part of the comparison reads a run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from opcd_bench.config.measures import NATS
from opcd_bench.envs import leakage, readings
from opcd_bench.envs.task import PROBE
from opcd_bench.errors import StoreError
from opcd_bench.report.analysis import external
from opcd_bench.report.analysis.clusters import clustered
from opcd_bench.report.analysis.loops import score_without_loops
from opcd_bench.store.environment import rounded_otherwise
from opcd_bench.store.jsonl import Row
from opcd_bench.store.run_reader import CONFIG, ENVIRONMENT, RunReader
from opcd_bench.store.suite_dir import SHARED, SharedDir, SuiteDir, is_suite
from opcd_bench.store.suite_list import SUITE

TEST = "test"
"""The split on which gain is measured, and what it is called among the measures."""
CELL = ["task", "method", "learning_rate", "seed"]
ADAPTED = "teacher adapted by "
"""Settings that only the cells with such a teacher have begin so."""
STATES = {"sealed": "done", "failed": "failed", "unfinished": "not finished"}

CELLS = [
    *CELL, "run", "state", "reason", "settings", "description", "environment", "chosen_step",
    "rule", "tokens_written", "teacher_tokens_scored", "student_tokens_trained", "skipped_steps",
    "collapsed", "seconds", "steps_per_second", "peak_memory_bytes",
]  # fmt: skip
EVALS = [
    *CELL, "run", "measured", "step", "split", "metric", "value", "primary", "n", "n_unscored",
    "protocol_hash", "final",
]  # fmt: skip
LEAK = ["measured", "split", "example_id", "sample", "mentions", "copied"]
WITHOUT_LOOPS = "score_without_loops"
SAMPLE = ["measured", "split", "example_id", "sample", "score", "outcome", WITHOUT_LOOPS]
CUT = ["measured", "cut"]
ANCHOR_PROTOCOLS = ["reading", "shared", "measured", "split", "protocol_hash"]
TRAINS = [*CELL, "run", "step"]
STEPS = [*CELL, "run", "step", "measured", "split", "scores"]
INSTRUCTIONS = [*CELL, "measured", "example_id", "instruction", "followed"]
FLOATS = ["value", "score", WITHOUT_LOOPS, "seconds", "steps_per_second"]
BOOLS = ["primary", "final", "followed"]

_STEP_SCORES = re.compile(r"scores-(?P<measured>.+)-step_(?P<step>\d+)")


@dataclass(frozen=True)
class StoredResults:
    """Everything that a report is made of; without any run the frames are empty but for columns.

    ``cells``: `CELLS`, one row a run. ``settings``: what the cells of a task must share;
    ``description``: the method's choices (``writer``, ``loss``, ``teacher``); ``environment``: {}
    where the run has not stored it yet. Summary and counters are missing unless done.
    ``collapsed``: the step at which its responses collapsed, if they did. ``seconds``:
    writing and training, without evaluations; ``peak_memory_bytes``: of the process so far.
    ``evals``: `EVALS`, evals.jsonl of all runs.
    ``samples``: `CELL` and `SAMPLE` (and `pairing.CLUSTER` where examples have clusters, as other
    frames of examples too), the final scores of the runs that are done; ``split`` is
    "test" or "retention", ``score`` NaN where unscored; `WITHOUT_LOOPS`: 0 where the response
    loops (`loops`).
    ``anchors``: ``reading`` ("base", or a name of `readings.ceiling_of`) and `SAMPLE`: the student
    before training, plain, on test and retention, and told teachers on test.
    ``trains``: `TRAINS` and all that train.jsonl has, one row an optimiser step; the step's own
    rate is ``step_learning_rate``.
    ``steps``: `STEPS`, one row an evaluated step; ``scores`` are those of the items of dev or of a
    retention task in their fixed order, NaN where unscored. Step 0 is the base.
    ``instructions``: `INSTRUCTIONS`, one row an instruction of a final retention sample that names
    its instructions; ``followed`` strictly or not. The base has no task, method, rate or seed.
    ``external``: `external.frame`.
    ``leaks``, ``leaks_base``: `LEAK` of test responses without context, as ``samples`` and
    ``anchors``; empty where the suite has not stored what its teachers were told.
    ``cut``, ``cut_base``: `CUT` of retention responses, final and of the base: whether the length
    limit cut them.
    ``nats``, ``nats_base``: as ``samples`` and ``anchors``, of measures whose ``score`` is in nats.
    ``probes``, ``probe_anchors``: as ``samples`` and ``anchors``, of the tasks' further test sets.
    ``protocols``: `ANCHOR_PROTOCOLS`, one row a stored score that runs are compared with.
    """

    root: Path
    suite: Mapping[str, Any]
    cells: pd.DataFrame
    evals: pd.DataFrame
    samples: pd.DataFrame
    anchors: pd.DataFrame
    trains: pd.DataFrame
    steps: pd.DataFrame
    instructions: pd.DataFrame
    external: pd.DataFrame
    cut: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[*CELL, *CUT]))
    cut_base: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=CUT))
    nats: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[*CELL, *SAMPLE]))
    nats_base: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=SAMPLE))
    leaks: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[*CELL, *LEAK]))
    leaks_base: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=LEAK))
    probes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=[*CELL, *SAMPLE]))
    probe_anchors: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=["reading", *SAMPLE])
    )
    protocols: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=ANCHOR_PROTOCOLS))

    @cached_property
    def finals(self) -> Mapping[tuple[str, str, float], Mapping[str, pd.DataFrame]]:
        """(task, method, learning rate) -> "test" or a retention task -> its rows of samples."""
        found: dict[tuple[str, str, float], dict[str, pd.DataFrame]] = {}
        keys = [*CELL[:3], "split", "measured"]
        for (task, method, rate, split, name), rows in self.samples.groupby(keys, sort=True):
            measured = split if split == "test" else name
            found.setdefault((task, method, rate), {})[measured] = rows
        return found

    @cached_property
    def _anchors(self) -> Mapping[tuple[str, str, str], pd.DataFrame]:
        return dict(iter(self.anchors.groupby(["reading", "split", "measured"], sort=True)))

    def anchor(self, reading: str, task: str, measured: str) -> pd.DataFrame:
        """Rows of anchors on a task's "test" or on a retention task; empty where there are none."""
        key = (reading, measured, task) if measured == "test" else (reading, "retention", measured)
        return self._anchors.get(key, self.anchors.iloc[:0])

    @cached_property
    def _ceilings(self) -> Mapping[tuple[str, str], str]:
        """(task, method) -> the ceiling that it is measured against."""
        return {
            (str(task), str(method)): readings.ceiling_of(described)
            for task, method, described in zip(
                *(self.cells[name] for name in ("task", "method", "description")), strict=True
            )
            if {"loss", "teacher", "writer"} <= described.keys()
        }

    def larger(self, task: str, method: str) -> bool:
        """Whether the suite's larger teacher teaches a method."""
        return self.ceiling_name(task, method).startswith("ceiling-larger")

    def ceiling_name(self, task: str, method: str) -> str:
        """Which ceiling a method is measured against: that of what its teacher reads."""
        return self._ceilings.get((task, method), "ceiling")

    def ceiling(self, task: str, method: str) -> pd.DataFrame:
        """Rows of anchors on a task's test: the teacher of a method, told; empty if unscored."""
        return self.anchor(self.ceiling_name(task, method), task, "test")


def load(root: Path) -> StoredResults:
    """Results of ``results/<suite>``, finished or not; StoreError where there is no suite."""
    if not is_suite(root):
        raise StoreError(f"{root}: no suite is stored here (no {SUITE}); run one: opcd-bench run")
    cells: list[Row] = []
    evals: list[Row] = []
    trains: list[Row] = []
    steps: list[tuple[Any, ...]] = []
    samples: list[tuple[Any, ...]] = []
    instructions: list[tuple[Any, ...]] = []
    cut: list[tuple[Any, ...]] = []
    cut_base: list[tuple[Any, ...]] = []
    nats: list[tuple[Any, ...]] = []
    nats_base: list[tuple[Any, ...]] = []
    leaks: list[tuple[Any, ...]] = []
    leaks_base: list[tuple[Any, ...]] = []
    probes: list[tuple[Any, ...]] = []
    probe_anchors: list[tuple[Any, ...]] = []
    shared: set[tuple[str, str, str]] = set()
    suite = SuiteDir(root).read()
    told = {name: leakage.Told.from_json(one) for name, one in suite.get("told", {}).items()}
    for config_file in sorted(root.glob(f"*/{CONFIG}")):
        reader = RunReader(config_file.parent)
        row, stored_anchors = _cell(reader)
        cells.append(row)
        shared |= {(a["reading"], a["shared"], a["name"]) for a in stored_anchors}
        key = tuple(row[column] for column in CELL)
        run = {column: row[column] for column in (*CELL, "run")}
        evals += [{**run, "measured": e.pop("task"), **e} for e in reader.read("evals")]
        for step in reader.read("train"):
            trains.append({**run, "step_learning_rate": step.pop("learning_rate", None), **step})
        for name in reader.sample_names():
            if at := _STEP_SCORES.fullmatch(name):
                steps += [
                    (*key, row["run"], int(at["step"]), r["task"], r["split"], _scores(r["scores"]))
                    for r in reader.read(f"samples/{name}")
                ]
            elif row["state"] == "done":
                rows = reader.read(f"samples/{name}")
                if name.startswith(f"{NATS}-"):
                    nats += [(*key, *sample(r, False)) for r in rows]
                    continue
                if name == "test" and row["task"] in told:
                    leaks += [(*key, *_leak(r, told[row["task"]])) for r in rows]
                if name.startswith(f"{PROBE}-"):
                    probes += [(*key, *sample(r, False)) for r in rows]
                    continue
                retention = name.startswith("retention-")
                samples += [(*key, *one) for r in rows for one in scored(r, retention)]
                instructions += [(*key, *found) for r in rows for found in _followed(r)]
                cut += [(*key, *found) for r in rows if retention for found in _cut(r)]
    anchors: list[tuple[Any, ...]] = []
    protocols: list[tuple[Any, ...]] = []
    for reading, folder, name in sorted(shared):
        head, *rows = SharedDir(root / SHARED / folder).get(name)
        about = head["measured"]
        if "protocol_hash" in about:
            which = (about["task"], about["split"], about["protocol_hash"])
            protocols.append((reading, folder, *which))
        if folder.startswith(f"{NATS}-"):
            nats_base += [sample(r, False) for r in rows]
            continue
        if f"-{PROBE}_" in name:
            probe_anchors += [(reading, *sample(r, False)) for r in rows]
            continue
        retention = folder.startswith("retention-")
        anchors += [(reading, *one) for r in rows for one in scored(r, retention)]
        if reading == "base" and not retention:
            leaks_base += [_leak(r, told[r["task"]]) for r in rows if r["task"] in told]
        if reading == "base":
            nobody = (None, None, np.nan, np.nan)
            instructions += [(*nobody, *found) for r in rows for found in _followed(r)]
            cut_base += [found for r in rows if retention for found in _cut(r)]
    read = ["reading", *SAMPLE]
    return StoredResults(
        root=root,
        suite=suite,
        cells=_frame(cells, CELLS),
        evals=_frame(evals, EVALS),
        samples=clustered(typed(pd.DataFrame(samples, columns=[*CELL, *SAMPLE])), suite),
        anchors=clustered(typed(pd.DataFrame(anchors, columns=read)), suite),
        trains=_frame(trains, TRAINS),
        steps=pd.DataFrame(steps, columns=STEPS),
        instructions=typed(pd.DataFrame(instructions, columns=INSTRUCTIONS)),
        external=external.frame(root),
        cut=pd.DataFrame(cut, columns=[*CELL, *CUT]),
        cut_base=pd.DataFrame(cut_base, columns=CUT),
        nats=typed(pd.DataFrame(nats, columns=[*CELL, *SAMPLE])),
        nats_base=typed(pd.DataFrame(nats_base, columns=SAMPLE)),
        leaks=clustered(pd.DataFrame(leaks, columns=[*CELL, *LEAK]), suite),
        leaks_base=clustered(pd.DataFrame(leaks_base, columns=LEAK), suite),
        probes=clustered(typed(pd.DataFrame(probes, columns=[*CELL, *SAMPLE])), suite),
        probe_anchors=clustered(typed(pd.DataFrame(probe_anchors, columns=read)), suite),
        protocols=pd.DataFrame(protocols, columns=ANCHOR_PROTOCOLS),
    )


def _cell(reader: RunReader) -> tuple[Row, Sequence[Mapping[str, str]]]:
    """The row of a run in ``cells``, and which shared samples it was measured against."""
    state = STATES[reader.state]  # asked once: a run may end while it is read
    config = reader.config
    failure = reader.failure() if state == "failed" else None
    summary = reader.summary if state == "done" else {}
    stored = (reader.path / ENVIRONMENT).is_file()
    row = {
        "task": config["task"]["name"],
        "method": config["method"]["name"],
        "learning_rate": config["learning_rate"],
        "seed": config["seed"],
        "run": reader.path.name,
        "state": state,
        "reason": (failure or {}).get("reason", ""),
        "settings": _settings(config),
        "description": config["method"],
        "environment": {**reader.environment, **_resumed(reader)} if stored else {},
        **{key: value for key, value in summary.items() if key != "anchors"},
        "collapsed": summary.get("collapsed", {}).get("step"),
        **_timed(reader.read("timing")),
    }
    return row, summary.get("anchors", [])


def _resumed(reader: RunReader) -> dict[str, list[list[str]]]:
    """What moved last digits when the run was taken up again; nothing where nothing did."""
    found = [
        moved
        for event in reader.read("events")
        if event["kind"] == "resumed" and (moved := rounded_otherwise(event["changed"]))
    ]
    return {"resumed with": found} if found else {}


def _cut(row: Row) -> Iterator[tuple[str, bool]]:
    """`CUT` of a retention response; nothing of a row without one."""
    turns = row.get("turns") or [row]
    if finish := turns[-1].get("finish"):
        yield row["task"], finish == "length"


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for the cells of one task: all but method, rate and seed.

    And, of those whose teacher is adapted by the same method (`ADAPTED`), how that was done.
    """
    adapted = config.get("adapted")
    by = {} if adapted is None else {f"{ADAPTED}{adapted['method']['name']}": adapted}
    suite = {f"suite.{key}": value for key, value in config.get("suite", {}).items()}
    task = {f"task.{key}": value for key, value in config["task"].items()}
    return {**suite, **task, **by}


def _timed(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds, steps a second and peak memory of a run; nothing where no step was timed."""
    rows = [row for row in rows if "phase" not in row]
    if not rows:
        return {}
    seconds = sum(row["seconds_written"] + row["seconds_trained"] for row in rows)
    return {
        "seconds": seconds,
        "steps_per_second": len(rows) / seconds,
        "peak_memory_bytes": max(row["peak_memory_bytes"] for row in rows),
    }


def scored(row: Mapping[str, Any], retention: bool) -> Iterator[tuple[Any, ...]]:
    """A stored sample as `SAMPLE`, and again for each other score that is shown beside its own."""
    yield sample(row, retention)
    for what, score in row.get("beside", {}).items():
        beside = {**row, "task": f"{row['task']}, {what}", "score": score}
        yield sample(beside, retention)


def sample(row: Mapping[str, Any], retention: bool) -> tuple[Any, ...]:
    """A stored sample without its texts, as `SAMPLE`."""
    split = "retention" if retention else row["split"]
    return (
        row["task"], split, row["example_id"], row.get("sample", 0), row["score"], row["outcome"],
        score_without_loops(row),
    )  # fmt: skip


def _leak(row: Mapping[str, Any], told: leakage.Told) -> tuple[Any, ...]:
    """What a stored test sample leaks, as `LEAK`; nothing where it was not played."""
    head = (row["task"], row["split"], row["example_id"], row.get("sample", 0))
    if not row.get("turns"):
        return (*head, np.nan, np.nan)
    found = told.leak(row["turns"])
    return (*head, float(found.mentions), np.nan if found.copied is None else found.copied)


def _followed(row: Mapping[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    """Each instruction of a sample of a task like IFEval, and whether it was followed strictly."""
    if "instruction_ids" in row:
        strict = row["values"]["inst_level_strict_acc"]
        for instruction, followed in zip(row["instruction_ids"], strict, strict=True):
            yield row["task"], row["example_id"], instruction, followed


def _scores(stored: Sequence[float | None]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(stored, dtype=np.float64)


def _frame(rows: Sequence[Row], columns: list[str]) -> pd.DataFrame:
    """Rows as a frame with these columns first, whether any row has them or not."""
    more = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in columns]
    return typed(pd.DataFrame(rows, columns=[*columns, *more]))


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns that nothing or only nulls were found for, with the type that they have else."""
    typed = [*FLOATS, *(BOOLS if frame.empty else [])]
    return frame.astype(
        {column: float if column in FLOATS else bool for column in typed if column in frame}
    )
