"""What suite.json says of a suite's contexts: their texts, and what it costs to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from opcd_bench.envs import leakage
from opcd_bench.envs.task import Context, Contexts, Message, Task
from opcd_bench.errors import UserError
from opcd_bench.models.loaded import LoadedModel, PromptFormat
from opcd_bench.models.prompts import prompt_ids, told_ids
from opcd_bench.runner.models import SuiteModels

CONTEXTS, SHAPES = "contexts", "model_shapes"
"""Keys of suite.json."""

MEASURED = 16
"""Dev prompts whose lengths are averaged: test is opened for its score, train for training."""


def record(tasks: Mapping[str, Task], models: SuiteModels) -> dict[str, Any]:
    """Of each task its contexts, by the hash that its runs have; and the shapes of the models.

    ``contexts``: task -> hash -> ``pool`` (placement and text of each, and the ``false_share`` of
    one that declares it), its draw (``by_example``),
    whether prompts say which is drawn (``named``), and in tokens of the student, means over
    the first `MEASURED` dev prompts, ``prompt_tokens`` without context and ``context_tokens`` that
    it adds. ``model_shapes``: "student" and "larger" -> parameters, layers
    and the width of all attention heads; nothing for a model in another process.
    """
    larger = models.larger() if models.suite.teacher_model is not None else None
    shapes = {"student": _shape(models.initial), "larger": _shape(larger)}
    return {
        CONTEXTS: {
            name: {task.contexts().hash: _of_task(task, models.initial)}
            for name, task in tasks.items()
        },
        SHAPES: {name: shape for name, shape in shapes.items() if shape},
    }


def told(tasks: Mapping[str, Task]) -> dict[str, Any]:
    """What leakage is looked for with: of each task its contexts, and what speaks of one."""
    return {"told": {name: leakage.Told.of(task).to_json() for name, task in tasks.items()}}


def _of_task(task: Task, reader: PromptFormat) -> dict[str, Any]:
    contexts = task.contexts()
    told: dict[str, Any] = {
        "pool": [_of_context(one) for one in contexts.pool],
        **{name: True for name in ("by_example", "named") if getattr(contexts, name)},
    }
    lengths = _lengths(task, contexts, reader)
    if not lengths:
        return told
    without, added = zip(*lengths, strict=True)
    return {**told, "prompt_tokens": fmean(without), "context_tokens": fmean(added)}


def _of_context(one: Context) -> dict[str, Any]:
    known = {} if one.false_share is None else {"false_share": one.false_share}
    return {"placement": one.placement, "text": one.text, **known}


def _lengths(task: Task, contexts: Contexts, reader: PromptFormat) -> list[tuple[int, int]]:
    """(tokens without context, tokens that the context adds) of first prompts."""
    found = []
    for example in task.examples("dev")[:MEASURED]:
        try:
            messages = [dict(message) for message in task.open(example, 0).messages]
        except UserError:
            raise
        except Exception:  # a run records as failed what else the task's own code raises
            continue
        found.append(_length(messages, contexts.of(task.name, 0, example.id), reader))
    return found


def _length(messages: Sequence[Message], context: Context, reader: PromptFormat) -> tuple[int, int]:
    without = len(prompt_ids(reader, messages))
    return without, len(told_ids(reader, messages, context)) - without


def _shape(model: PromptFormat | None) -> dict[str, int]:
    """What arithmetic per token depends on; {} where the module is not here."""
    if not isinstance(model, LoadedModel):
        return {}
    text = model.model.config.get_text_config()
    heads = int(text.num_attention_heads)
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return {
        "parameters": sum(p.numel() for p in model.model.parameters()),
        "layers": int(text.num_hidden_layers),
        "attention_width": heads * int(width),
    }
