"""Wrong inputs of `opcd-bench import-lm-eval`: files of other shapes than lm_eval's."""

import copy
import json
from typing import Any

from row import Row
from stock_lm_eval import SAMPLES, results

SUITE = {"results/toys/suite.json": '{"name": "toys", "summary": ""}\n'}
COMMAND = "import-lm-eval results_x.json --suite toys --name stock"
WITH_LOG = "import-lm-eval results_x.json samples_ifeval_x.jsonl --suite toys --name stock"
GIVE = "Give results_*.json"
GOOD = results(SAMPLES)


def changed(value: Any, *path: Any) -> str:
    """A results file with another value at a place."""
    made = copy.deepcopy(GOOD)
    at = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return json.dumps(made)


def logged(value: Any, key: str) -> dict[str, str]:
    """A results file, and a log whose first sample has another value."""
    first = {**SAMPLES[0], key: value}
    lines = [json.dumps(sample) for sample in (first, *SAMPLES[1:])]
    return {"results_x.json": json.dumps(GOOD), "samples_ifeval_x.jsonl": "\n".join(lines) + "\n"}


CHANGES = {
    "n-samples.ifeval.effective": (-4, "n-samples", "ifeval", "effective"),
    "n-samples.ifeval.original": (0, "n-samples", "ifeval", "original"),
    "n-samples.ifeval": (7, "n-samples", "ifeval"),
    "n-samples": ([], "n-samples"),
    "model_name": (None, "model_name"),
    "model_name: is empty": ("", "model_name"),
    "model_source": (3, "model_source"),
    "lm_eval_version": (0.4, "lm_eval_version"),
    "results": ([], "results"),
    "results.ifeval": (None, "results", "ifeval"),
    "configs.ifeval": ("x", "configs", "ifeval"),
    "configs.ifeval.metric_list": ({"a": 1}, "configs", "ifeval", "metric_list"),
    "task_hashes": (["x"], "task_hashes"),
    "task_hashes.ifeval": (None, "task_hashes", "ifeval"),
    "higher_is_better": (True, "higher_is_better"),
    "higher_is_better.ifeval": ([True], "higher_is_better", "ifeval"),
    "versions": (4, "versions"),
    "below 0": (-0.1, "results", "ifeval", "prompt_level_strict_acc_stderr,none"),
}
"""What the message names, and what stands where in the file."""

TEXTS = {
    "no JSON": '{"results": ',
    "a list, not an object": "[]",
    "a NoneType, not an object": "null",
    "no results of lm_eval 0.4": "{}",
    "brackets stand too deep": "[" * 100_000,
    "no JSON (Exceeds": '{"results": ' + "9" * 5_000 + "}",
    "half a surrogate pair": changed("\ud800", "model_name"),
    "holds no score": changed({"alias": "x"}, "results", "ifeval"),
    "holds no score (": changed({"a,none": float("nan")}, "results", "ifeval"),
}

LOGS = {
    "doc_hash": 3,
    "prompt_hash": None,
    "filter": [],
    "metrics": "acc",
    "doc": "a text",
}

ROWS = [
    *(
        Row(COMMAND, ("results_x.json", says, GIVE), {**SUITE, "results_x.json": changed(*change)})
        for says, change in CHANGES.items()
    ),
    *(
        Row(COMMAND, ("results_x.json", says, GIVE), {**SUITE, "results_x.json": text})
        for says, text in TEXTS.items()
    ),
    *(
        Row(WITH_LOG, ("samples_ifeval_x.jsonl, line 1", key, GIVE), SUITE | logged(value, key))
        for key, value in LOGS.items()
    ),
    Row(WITH_LOG, ("line 1", "1 instructions, and 2 grades of them"),
        {**SUITE, **logged([True, True], "inst_level_strict_acc")}),
    Row(WITH_LOG, ("line 1", "followed"),
        {**SUITE, **logged(["yes"], "inst_level_strict_acc")}),
    Row(COMMAND, ("no UTF-8 text",), {**SUITE, "results_x.json": b"\xff\xfe"}),
    Row(COMMAND, ("results_x.json: no such file", GIVE), SUITE),
    Row(COMMAND, ("unknown run or suite 'toys'",)),
    Row(WITH_LOG, ("empty",), {**SUITE, "results_x.json": json.dumps(GOOD),
                               "samples_ifeval_x.jsonl": ""}),
    Row("import-lm-eval . --suite toys --name stock", ("no results_*.json below",), SUITE),
    Row("import-lm-eval a.txt --suite toys --name stock", ("neither .json nor .jsonl",),
        {**SUITE, "a.txt": "x"}),
    Row("import-lm-eval --suite toys --name stock", ("Missing argument",), SUITE),
    Row("import-lm-eval results_x.json --name stock", ("Missing option", "--suite")),
    Row("import-lm-eval results_x.json --suite toys", ("Missing option", "--name"), SUITE),
    Row("import-lm-eval results_x.json --suite toys --name ../x", ("--name",),
        {**SUITE, "results_x.json": json.dumps(GOOD)}),
]  # fmt: skip
