"""What ``ifeval_micro.yaml`` names: its records, and the grading, which is lm-eval's own IFEval."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opcd_bench.envs.ifeval import checkers


def dataset(**metadata: Any) -> Any:
    """The records beside this file as ``{"test": Dataset}``, in memory: no cache is written."""
    from datasets import Dataset, DatasetDict

    lines = Path(__file__).with_name("ifeval_micro.jsonl").read_text(encoding="utf-8").splitlines()
    return DatasetDict({"test": Dataset.from_list([json.loads(line) for line in lines])})


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """IFEval's four metrics of one reply."""
    graded: dict[str, Any] = checkers().process_results(doc, results)
    return graded


def agg_inst_level_acc(items: Sequence[Sequence[bool]]) -> float:
    """The share of instructions that are followed."""
    return float(checkers().agg_inst_level_acc(items))
