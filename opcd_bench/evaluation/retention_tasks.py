"""Finds an lm-eval task by name and loads it with its documents: local ones, or the Hub's."""

from __future__ import annotations

import difflib
import functools
import inspect
import json
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from opcd_bench.config import measures
from opcd_bench.envs import data_files, ifeval
from opcd_bench.errors import DataError, UnknownName
from opcd_bench.evaluation.retention_names import OURS
from opcd_bench.hashing import text_digest
from opcd_bench.seeds import seed_of

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager


def index_with(name: str) -> TaskManager:
    """An index that has the task: of our folder, of lm-eval's own for it, or else of everything.

    Indexing all of lm-eval takes 14 s (14,683 names), one folder 0.1 s.
    """
    import lm_eval.tasks

    stock = Path(lm_eval.tasks.__file__).parent
    for folder in (OURS, stock / name, stock / name.split("_")[0]):
        if folder.is_dir():
            manager = lm_eval.tasks.TaskManager(include_path=str(folder), include_defaults=False)
            if name in manager.all_subtasks:
                return manager
    manager = _whole_index()
    if name not in manager.all_subtasks:
        if name in manager.all_tasks:
            raise DataError(
                f"retention task {name!r} is a group of lm-eval tasks; name its single tasks "
                "instead (`lm_eval ls subtasks` lists them)"
            )
        near = difflib.get_close_matches(name, manager.all_subtasks, n=5, cutoff=0.5)
        raise UnknownName(
            "retention task",
            name,
            {*near, "ifeval", "ifeval_micro", *measures.names()},
            "All of lm-eval: `lm_eval ls subtasks`.",
        )
    return manager


@functools.cache
def _whole_index() -> TaskManager:
    from lm_eval.tasks import TaskManager

    return TaskManager()


def load(name: str, manager: TaskManager, data_dir: Path | None) -> Any:
    """The task with its documents: from ``data_dir`` where it has some, from the Hub otherwise.

    Its grading draws from Python's and NumPy's random states, which the caller puts back.
    """
    folder = None if data_dir is None else data_dir / name
    local = folder is not None and folder.is_dir()
    spec: str | dict[str, Any] = name
    if folder is not None and local:
        spec = _local_spec(manager.task_index[name].yaml_path, folder)
    with ifeval.no_downloads():
        try:
            return _drawing_by_document(manager.load([spec])["tasks"][name])
        except (OSError, ValueError) as error:
            if local:
                raise
            where = f"<data_dir>/{name}/" if folder is None else f"{folder}/"
            raise DataError(
                f"retention task {name!r}: its documents cannot be read from the Hub "
                f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). "
                f"Check the connection, or put the data file in {where} and give --data-dir"
            ) from error


def _drawing_by_document(task: Any) -> Any:
    """``task``, whose grading draws the same for a document whatever was graded before it.

    IFEval draws at random what a record does not give, or gives in a form it does not take: of
    record 1122, which counts ``#``, a letter.
    """
    grade = task.process_results

    def graded(doc: Any, results: Any) -> Any:
        seed = seed_of("lm-eval grade", json.dumps(doc, sort_keys=True, default=str))
        random.seed(seed)
        numpy.random.seed(seed % 2**32)
        return grade(doc, results)

    task.process_results = graded
    return task


def _local_spec(yaml_path: Path, folder: Path) -> dict[str, Any]:
    """The task's own configuration, its documents read from the files of ``folder``.

    One file holds the split that is scored; several are called by their splits.
    """
    from lm_eval.tasks._yaml_loader import load_yaml

    with ifeval.no_downloads():
        config: dict[str, Any] = dict(load_yaml(yaml_path))
    files = sorted(
        path for path in folder.iterdir() if path.suffix in (".jsonl", ".json", ".parquet")
    )
    if not files:
        raise DataError(f"{folder} holds no .jsonl, .json or .parquet file")
    scored = config.get("test_split") or config.get("validation_split")
    splits = {scored: files[0]} if len(files) == 1 else {path.stem: path for path in files}
    if scored not in splits:
        raise DataError(
            f"{folder}: the task is scored on its split {scored!r}, and no file there has that "
            f"name; name the file {scored}{files[0].suffix}"
        )

    named = [config.get(key) for key in ("training_split", "validation_split", "fewshot_split")]
    missing = sorted({split for split in named if split and split not in splits})
    shown = (config.get("fewshot_config") or {}).get("samples")
    if missing and config.get("num_fewshot") and not shown:
        raise DataError(
            f"{folder}: the task shows {config['num_fewshot']} examples of its split "
            f"{missing[0]!r}, and no file there has that name; add {missing[0]}{files[0].suffix}"
        )

    def local_documents(**metadata: Any) -> Any:
        from datasets import Dataset, DatasetDict

        # lm-eval looks at the other splits, though nothing of them is shown.
        empty = {split: Dataset.from_list([]) for split in missing}
        return DatasetDict({**empty, **{split: _read(path) for split, path in splits.items()}})

    for key in ("dataset_path", "dataset_name", "dataset_kwargs"):
        config.pop(key, None)
    return config | {"custom_dataset": local_documents}


def _read(path: Path) -> Any:
    """The rows of a file, in memory: nothing is written to a cache. DataError names its line."""
    from datasets import Dataset

    rows = [dict(row) for row in data_files.rows_of([path])]
    try:
        return Dataset.from_list(rows)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as rows of documents ({error})") from error


def shares(name: str, task: Any) -> set[str]:
    """The metrics of a task that are means of its documents' values, of which more is better.

    Raises DataError where there is none: a perplexity has no place beside accuracies, and a score
    of a whole corpus none for a single document.
    """
    from lm_eval.api.metrics import mean

    better = task.higher_is_better()
    means = (mean, numpy.mean)
    found = {metric for metric, by in task.aggregation().items() if by in means and better[metric]}
    if not found:
        instead = " or ".join(measures.HELD_OUT)
        raise DataError(
            f"retention task {name!r} has no metric that is a share of its documents, of which "
            f"more is better (it has {', '.join(sorted(better)) or 'none'}), so it cannot stand "
            f"beside accuracies. Name another task; for the loss on texts {instead}"
        )
    return found


def instruction_ids(task: Any, limit: int | None) -> set[str]:
    """The IFEval instruction types among the documents that will be scored."""
    docs = task.eval_docs
    if "instruction_id_list" not in task.features:
        return set()
    lists = docs["instruction_id_list"]
    return {name for names in list(lists)[:limit] for name in names}


_NOT_HASHED = {
    "custom_dataset",
    "dataset_path",
    "dataset_name",
    "dataset_kwargs",
    "generation_kwargs",
}


def task_hash(task: Any) -> str:
    """First hex digits of SHA-256 over what the task asks and how it grades, wherever read from.

    Functions count by their source, at any depth: the same in every process.
    """
    config = task.config.to_dict(keep_callable=True)
    config = {key: value for key, value in config.items() if key not in _NOT_HASHED}
    config.setdefault("num_fewshot", 0)  # which lm-eval puts there as it begins to score
    config["metadata"] = {
        k: v for k, v in (config.get("metadata") or {}).items() if k != "config_source"
    }
    docs = [dict(doc) for doc in task.eval_docs]
    return text_digest(json.dumps([config, docs], sort_keys=True, default=_as_json))


def _as_json(value: Any) -> Any:
    """What JSON cannot hold, without the address of any object: a function as its source."""
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if callable(value):
        try:
            return inspect.getsource(value)
        except (TypeError, OSError):  # an object that can be called, or written in C
            pass
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(value))
