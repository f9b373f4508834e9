"""The files that a stock lm_eval run writes, read as one checked record of what it measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opcd_bench.errors import DataError
from opcd_bench.hashing import text_digest
from opcd_bench.report.analysis.lm_eval_shapes import HOW, assert_results, assert_sample, parsed
from opcd_bench.store.files import checksum

Row = dict[str, Any]

RESULTS_KEYS = ("results", "configs", "n-samples", "lm_eval_version", "model_name")
SAMPLE_KEYS = ("doc_hash", "prompt_hash", "target_hash", "filter", "metrics", "doc")


@dataclass(frozen=True)
class _Results:
    """One results file; ``tasks``: hash of a task's samples -> tasks that have it."""

    path: Path
    content: Mapping[str, Any]
    tasks: Mapping[str, list[str]]


def read(paths: Sequence[Path]) -> Row:
    """The record of one model's stock lm_eval run, from its files or the folders they lie in.

    ``{"model", "model_source", "files", "measures", "samples"}``: ``measures`` has one row a
    (task, metric, filter) with ``value``, ``stderr`` (None where lm_eval has none) and ``n``;
    ``samples`` one row a (task, filter, document) with ``example_id`` (the start of the document's
    hash, as in our retention samples), ``values`` (metric -> number) and, for tasks like IFEval,
    ``instruction_ids`` and ``followed``.

    Raises DataError for a file that no lm_eval 0.4 wrote, results of two models, a task that comes
    twice, or a sample log that belongs to none of the results.
    """
    files = _expanded(paths)
    results = [_results(path) for path in files if path.suffix == ".json"]
    if not results:
        raise DataError(
            f"{_named(files)}: these are only sample logs, and a results file is needed. {HOW}"
        )
    _one_model(results)
    measures = [row for found in results for row in _measures(found)]
    _no_task_twice(results)
    samples = [
        row
        for path in files
        if path.suffix == ".jsonl"
        for row in _samples(path, results, measures)
    ]
    first = results[0].content
    return {
        "model": first["model_name"],
        "model_source": first.get("model_source"),
        "files": [{"name": path.name, "sha256": checksum(path).sha256} for path in files],
        "measures": measures,
        "samples": samples,
    }


def _expanded(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            below = [*path.rglob("results_*.json"), *path.rglob("samples_*.jsonl")]
            if not below:
                raise DataError(f"{path}: no results_*.json below this folder. {HOW}")
            found += sorted(below)
        elif not path.is_file():
            raise DataError(f"{path}: no such file. {HOW}")
        elif path.suffix not in (".json", ".jsonl"):
            raise DataError(f"{path}: neither .json nor .jsonl. {HOW}")
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _results(path: Path) -> _Results:
    content = parsed(path, _text(path), "")
    missing = [key for key in RESULTS_KEYS if key not in content]
    if missing:
        raise DataError(
            f"{path}: no results of lm_eval 0.4 or later ({', '.join(missing)} missing). {HOW}"
        )
    assert_results(path, content)
    tasks: dict[str, list[str]] = {}
    for task, key in sorted(content.get("task_hashes", {}).items()):
        tasks.setdefault(key, []).append(task)
    return _Results(path, content, tasks)


def _one_model(results: Sequence[_Results]) -> None:
    names = {found.content["model_name"]: found.path for found in results}
    if len(names) > 1:
        listing = "; ".join(f"{name} in {path}" for name, path in names.items())
        raise DataError(
            f"results of {len(names)} models ({listing}), but an external row is for one model; "
            "import each model under its own --name"
        )


def _no_task_twice(results: Sequence[_Results]) -> None:
    seen: dict[str, Path] = {}
    for found in results:
        for task in found.content["results"]:
            if task in seen:
                raise DataError(
                    f"{task} is in both {seen[task]} and {found.path}: leave one of them out, or "
                    "import it under its own --name"
                )
            seen[task] = found.path


def _measures(found: _Results) -> list[Row]:
    content, rows = found.content, []
    for task, scores in sorted(content["results"].items()):
        counts = content["n-samples"].get(task, {})
        better = content.get("higher_is_better", {}).get(task, {})
        for key, value in sorted(scores.items()):
            metric, comma, chosen = key.partition(",")
            if not comma or metric.endswith("_stderr") or not _number(value):
                continue
            error = scores.get(f"{metric}_stderr,{chosen}")
            rows.append(
                {
                    "task": task,
                    "task_version": content.get("versions", {}).get(task),
                    "task_hash": content.get("task_hashes", {}).get(task),
                    "num_fewshot": content.get("n-shot", {}).get(task),
                    "lm_eval": content["lm_eval_version"],
                    "chat_template": content.get("chat_template_sha") is not None,
                    "metric": metric,
                    "filter": chosen,
                    "value": float(value),
                    "stderr": float(error) if _number(error) else None,
                    "n": counts.get("effective"),
                    "of": counts.get("original"),
                    "higher_is_better": better.get(metric, True),
                }
            )
    if not rows:
        raise DataError(f"{found.path} holds no score (no 'metric,filter' with a number). {HOW}")
    return rows


def _samples(path: Path, results: Sequence[_Results], measures: Sequence[Row]) -> list[Row]:
    logged = _sample_rows(path)
    task, found = _task_of(path, logged, results)
    rows = []
    for row in logged:
        made: Row = {
            "task": task,
            "filter": row["filter"],
            "example_id": row["doc_hash"][:16],
            "values": {m: float(row[m]) for m in row["metrics"] if _number(row.get(m))},
        }
        followed = row.get("inst_level_strict_acc")
        if "instruction_id_list" in row["doc"] and isinstance(followed, list):
            made["instruction_ids"] = list(row["doc"]["instruction_id_list"])
            made["followed"] = [bool(one) for one in followed]
        rows.append(made)
    means = {(m["metric"], m["filter"]): m["value"] for m in measures if m["task"] == task}
    for metric in _averaged(found.content["configs"].get(task, {})):
        for chosen in sorted({row["filter"] for row in rows}):
            _agree(path, task, metric, chosen, rows, means)
    return rows


def _sample_rows(path: Path) -> list[Row]:
    lines = [line for line in _text(path).split("\n") if line.strip()]
    if not lines:
        raise DataError(f"{path}: empty. {HOW}")
    rows = []
    for number, line in enumerate(lines, 1):
        row = parsed(path, line, f", line {number}")
        missing = [key for key in SAMPLE_KEYS if key not in row]
        if missing:
            raise DataError(
                f"{path}, line {number}: no sample of lm_eval 0.4 or later "
                f"({', '.join(missing)} missing). {HOW}"
            )
        assert_sample(path, number, row)
        rows.append(row)
    return rows


def _task_of(path: Path, rows: Sequence[Row], results: Sequence[_Results]) -> tuple[str, _Results]:
    """The task that a sample log is of, by the hash that lm_eval stores with the results."""
    text = "".join(row["doc_hash"] + row["prompt_hash"] + row["target_hash"] for row in rows)
    key = text_digest(text, 64)
    fitting = [(task, found) for found in results for task in found.tasks.get(key, [])]
    named = [pair for pair in fitting if path.name.startswith(f"samples_{pair[0]}_")]
    if len(named or fitting) != 1:
        tasks = ", ".join(sorted(t for r in results for names in r.tasks.values() for t in names))
        raise DataError(
            f"{path}: its samples (hash {key[:10]}…) are those of "
            f"{'several tasks' if fitting else 'no task'} in "
            f"{_named([found.path for found in results])} (with samples: {tasks or 'none'}). Give "
            "the sample logs and the results that one run wrote"
        )
    return (named or fitting)[0]


def _averaged(config: Mapping[str, Any]) -> list[str]:
    """The metrics of a task that are means over its documents."""
    return [m["metric"] for m in config.get("metric_list", []) if m.get("aggregation") == "mean"]


def _agree(
    path: Path,
    task: str,
    metric: str,
    chosen: str,
    rows: Sequence[Row],
    means: Mapping[tuple[str, str], float],
) -> None:
    """Refuse a log whose scores do not average to the stored result."""
    values = [r["values"][metric] for r in rows if r["filter"] == chosen and metric in r["values"]]
    stored = means.get((metric, chosen))
    if not values or stored is None:
        return
    mean = sum(values) / len(values)
    if not math.isclose(mean, stored, rel_tol=1e-6, abs_tol=1e-9):
        raise DataError(
            f"{path}: the mean of {metric} over its {len(values)} samples is {mean:.4f}, but the "
            f"results say {stored:.4f} for {task}, so this log is of another run"
        )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no UTF-8 text ({error.reason}). {HOW}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _number(value: object) -> bool:
    """Whether a value is a finite number: true and false too, which logs have for 1 and 0."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths))
