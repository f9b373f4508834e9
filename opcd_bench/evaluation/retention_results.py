"""What lm-eval says of a task, as the metrics and rows of a score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from opcd_bench.errors import DataError

FOLLOWED = "instructions_followed"
"""Share of a prompt's instructions that are followed, strictly; averaged over the prompts."""

BY_PROMPT = frozenset({"ifeval_micro"})
"""Tasks that are scored by whole prompts, as stored results have them."""


def primary(
    task: str,
    metrics: Mapping[str, float],
    shares: Collection[str],
    samples: Sequence[Mapping[str, Any]],
) -> str:
    """The metric that tables show: IFEval's share of instructions, else the first of ``shares``.

    Of those whose every sample lies in [0, 1]; DataError where there is none.
    """
    if FOLLOWED in metrics:
        return FOLLOWED
    found = [name for name in metrics if name.partition(",")[0] in shares]
    found = [name for name in found if _in_bounds(name.partition(",")[0], samples)]
    if not found:
        raise DataError(
            f"retention task {task!r}: of its metrics ({', '.join(metrics)}) none has scores from "
            "0 to 1 alone, so it cannot stand beside accuracies. Remove it from retention"
        )
    return next((m for m in found if m.startswith("prompt_level_strict_acc")), found[0])


def _in_bounds(metric: str, samples: Sequence[Mapping[str, Any]]) -> bool:
    values = [sample["values"].get(metric) for sample in samples]
    return all(isinstance(value, (int, float)) and 0 <= value <= 1 for value in values)


def with_shares(samples: Sequence[dict[str, Any]]) -> dict[str, float]:
    """`FOLLOWED` of the samples, which get their own values of it; nothing without instructions.

    A sample keeps the verdict on the whole prompt under ``beside``: tables show both.
    """
    shares = []
    for sample in samples:
        values = sample["values"]
        if "instruction_ids" not in sample or "inst_level_strict_acc" not in values:
            return {}
        followed = values["inst_level_strict_acc"]
        values[FOLLOWED] = sum(followed) / len(followed)
        sample["beside"] = {"whole prompts": float(values["prompt_level_strict_acc"])}
        shares.append(values[FOLLOWED])
    return {FOLLOWED: sum(shares) / len(shares)} if shares else {}


def of_metric(
    task: str, primary: str, samples: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, Any], ...]:
    """The samples that a metric is the mean of, scored; lm-eval's own filters make several."""
    metric, _, chosen = primary.partition(",")
    return tuple(
        {
            "task": task,
            "split": "retention",
            "example_id": sample["id"],
            "sample": 0,
            "score": float(sample["values"][metric]),
            "outcome": _outcome(float(sample["values"][metric]), sample.get("finish")),
            **sample,
        }
        for sample in samples
        if sample["filter"] == (chosen or "none")
    )


def _outcome(score: float, finish: str | None) -> str:
    """As for our own tasks: truncated is told apart from wrong."""
    if score == 1.0:
        return "correct"
    return "truncated" if finish == "length" else "wrong"


def metrics(results: Mapping[str, Any]) -> dict[str, float]:
    """lm-eval's numbers by name, with its filter unless that is ``none``."""
    values = {}
    for key, value in results.items():
        metric, _, chosen = key.partition(",")
        if isinstance(value, (int, float)) and chosen and not metric.endswith("_stderr"):
            values[metric if chosen == "none" else f"{metric},{chosen}"] = float(value)
    return values


def sample(row: Mapping[str, Any], prompt: str, written: Sequence[Any] | None) -> dict[str, Any]:
    """One of lm-eval's samples: its prompt, and the replies to its document as written."""
    found = {
        "id": row["doc_hash"][:16],
        "doc_id": row["doc_id"],
        "prompt": prompt,
        "reply": written[0].text if written else None,
        "graded": row["filtered_resps"][0] if written else None,
        "finish": written[0].finish if written else None,
        "filter": row["filter"],
        "values": {metric: row[metric] for metric in row["metrics"]},
    }
    if "instruction_id_list" in row["doc"]:
        found["instruction_ids"] = list(row["doc"]["instruction_id_list"])
    return found


def by_instruction(samples: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """IFEval's instruction types: how often each was asked, and which shares were followed."""
    followed: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for sample in samples:
        values = sample["values"]
        if "instruction_ids" in sample and "inst_level_strict_acc" in values:
            both = zip(values["inst_level_strict_acc"], values["inst_level_loose_acc"], strict=True)
            for name, pair in zip(sample["instruction_ids"], both, strict=True):
                followed[name].append(pair)
    return {
        name: {
            "n": len(pairs),
            "strict": sum(strict for strict, _ in pairs) / len(pairs),
            "loose": sum(loose for _, loose in pairs) / len(pairs),
        }
        for name, pairs in sorted(followed.items())
    }
