"""The card of a trained checkpoint: what it is, how it was made, what it scored, how to open it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opcd_bench.config.measures import NATS
from opcd_bench.models.model_dir import BUILT_IN
from opcd_bench.version import __version__

CARD = "README.md"


def card(config: Mapping[str, Any], evals: Sequence[Mapping[str, Any]], step: int, run: str) -> str:
    """A model card in Markdown with the Hub's front matter.

    ``config`` is the run's, ``evals`` its rows of evals.jsonl so far, ``step`` the checkpoint's.
    The same run gives the same text: there is no date in it.
    """
    method, task, suite = config["method"], config["task"], config["suite"]
    rows = [row for row in evals if row["primary"] and not row["final"] and row["split"] != NATS]
    before, now = ([row for row in rows if row["step"] == at] for at in (0, step))
    lines = [
        *_front_matter(suite["model"]),
        f"# {task['name']} by {method['name']}, step {step}",
        "",
        f"Trained by opcd-bench {__version__} from {_origin(suite)} to do without a context what "
        f"it does with it: method `{method['name']}` (rollout policy "
        f"{_policy(method['writer'])}, loss {_loss(method['loss'])}), task `{task['name']}` "
        f"version {task['version']}, learning rate {config['learning_rate']:g}, seed "
        f"{config['seed']}, {step} optimiser steps of {suite['batch_size']} examples.",
        "",
        *_scores(before, now),
        "This checkpoint may have been chosen by its score on dev; the test scores are in the "
        "run's folder.",
        "",
        "```",
        'AutoModelForCausalLM.from_pretrained("PATH/TO/THIS/FOLDER")   # transformers',
        "lm_eval --model hf --model_args pretrained=PATH/TO/THIS/FOLDER --apply_chat_template …",
        "vllm serve PATH/TO/THIS/FOLDER",
        "opcd-bench run --model PATH/TO/THIS/FOLDER …                  # train it further",
        "```",
        "",
        f"Run: `{run}`",
        "",
    ]
    return "\n".join(lines)


def _front_matter(model: str) -> list[str]:
    """Metadata that the Hub reads; a base model only where it has a name there."""
    on_hub = model not in BUILT_IN and not Path(model).exists()
    base = [f"base_model: {json.dumps(model)}"] if on_hub else []
    return [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        *base,
        "tags: [opcd-bench, context-distillation]",
        "---",
        "",
    ]


def _origin(suite: Mapping[str, Any]) -> str:
    """What training began from: a model, or what an earlier round made of it."""
    model = f"`{suite['model']}`"
    if suite.get("model_weights") is not None:
        model += f" (weights with the SHA-256 {suite['model_weights']})"
    if suite.get("begin_weights") is None:
        return model
    return f"the checkpoint that the rounds before round {suite['round']} made of {model}"


def _policy(writer: Mapping[str, Any]) -> str:
    """Whose responses were trained on; a kind of writer by the words of users."""
    words = {"student": "the student", "teacher": "the in-context teacher"}
    return words.get(writer["kind"], str(writer["kind"]))


def _loss(loss: Mapping[str, Any]) -> str:
    """A loss by its id, a contributed one by the name of its function."""
    return str(loss["id"] if "id" in loss else loss["callable"])


def _scores(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[str]:
    if not now:
        return ["This step was not evaluated.", ""]
    at_start = {(row["task"], row["split"]): row["value"] for row in before}
    lines = ["| scored on | split | before | now | items |", "|---|---|---|---|---|"]
    for row in now:
        first = at_start.get((row["task"], row["split"]))
        lines.append(
            f"| {row['task']} | {row['split']} | {_percent(first)} | {_percent(row['value'])} "
            f"| {row['n'] - row['n_unscored']} |"
        )
    return [*lines, ""]


def _percent(value: float | None) -> str:
    return "not scored" if value is None else f"{100 * value:.1f} %"
