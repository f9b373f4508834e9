"""Scores a model on a task: k graded samples an example, every one of them kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from opcd_bench.config.suite import Suite
from opcd_bench.envs.task import (
    PROBE,
    TRAINING_PROMPTS,
    Contexts,
    Example,
    Probe,
    Split,
    Task,
)
from opcd_bench.errors import CellFailed, DataError
from opcd_bench.evaluation.scores import SCORED, UNSCORED, Protocol, Score, score_of
from opcd_bench.hashing import digest, text_digest
from opcd_bench.models.loaded import PromptFormat
from opcd_bench.rollout.engine import Engine, Sampling
from opcd_bench.rollout.episodes import play
from opcd_bench.rollout.trajectory import Skipped, Trajectory
from opcd_bench.seeds import seed_of


class Asked(NamedTuple):
    """What a task is asked: a split's first ``items`` examples, ``samples`` samples of each."""

    split: Split
    items: int
    samples: int


def asked(suite: Suite, split: Split) -> Asked:
    """What a suite asks of the tasks that it trains on: on test, ``eval_samples`` an example."""
    if split == "test":
        return Asked(split, suite.test_items, suite.eval_samples)
    return Asked(split, suite.dev_items, 1)


def asked_of_retention(suite: Suite, task: Task) -> Asked:
    """What it asks of a task that is scored for retention: of its test, all without a limit."""
    return Asked("test", suite.retention_items or len(task.examples("test")), 1)


def eval_sampling(suite: Suite) -> Sampling:
    """The suite's decoding of every evaluation on a task."""
    return Sampling(
        temperature=suite.eval_temperature,
        top_p=suite.eval_top_p,
        top_k=suite.eval_top_k,
        max_completion_length=suite.max_completion_length,
    )


def retention_sampling(suite: Suite) -> Sampling:
    """The suite's decoding of lm-eval retention tasks: as every evaluation's, unless it says so."""

    def own(value: float | None, shared: float) -> float:
        return shared if value is None else value

    return Sampling(
        temperature=own(suite.retention_temperature, suite.eval_temperature),
        top_p=own(suite.retention_top_p, suite.eval_top_p),
        top_k=int(own(suite.retention_top_k, suite.eval_top_k)),
        max_completion_length=suite.retention_max_completion_length,
    )


def protocol(
    task: Task,
    split: str,
    examples: Sequence[Example],
    suite: Suite,
    samples: int,
    loaded: PromptFormat,
) -> dict[str, Any]:
    """All that a score depends on besides the weights and the reading (told or plain)."""
    template = loaded.tokenizer.chat_template
    return {
        "task": task.name,
        "version": task.version,
        "options": dict(task.options()),
        **task.source(),
        "split": split,
        "examples": digest([example.id for example in examples]),
        "n_examples": len(examples),
        "samples": samples,
        "decoding": {
            "temperature": suite.eval_temperature,
            "top_p": suite.eval_top_p,
            "top_k": suite.eval_top_k,
            "max_completion_length": suite.max_completion_length,
        },
        "max_prompt_length": suite.max_prompt_length,
        "overlong": suite.overlong,
        **({"thinking": True} if loaded.thinking else {}),
        "chat_template": text_digest(str(template)),
    }


def protocol_hash(
    task: Task,
    split: str,
    examples: Sequence[Example],
    suite: Suite,
    samples: int,
    loaded: PromptFormat,
    reads: Mapping[str, Any] | None = None,
) -> str:
    """The hash of `protocol`; ``reads`` is more that it holds."""
    return digest({**protocol(task, split, examples, suite, samples, loaded), **(reads or {})})


def first_examples(task: Task, split: Split, items: int) -> Sequence[Example]:
    """The first ``items`` examples of a split, in its fixed order; DataError if it is empty."""
    examples = task.examples(split)
    if not examples:
        raise DataError(
            f"task {task.name!r} has no {split} examples, so nothing can be scored on it"
        )
    return examples[:items]


def evaluate(
    task: Task,
    asked: Asked,
    *,
    told: bool,
    loaded: PromptFormat,
    engine: Engine,
    suite: Suite,
    seed: int,
) -> Score:
    """Score ``loaded`` through ``engine``, plain or told.

    The rates of the first four ``OUTCOMES`` are shares of the scored samples, the last two of all.

    ``seed`` fixes sampling noise, the environment's chance and the draw from a pool of contexts,
    per (example, sample), the last per example; greedy decoding leaves the last two to it.
    """
    split, items, samples = asked
    examples = first_examples(task, split, items)
    contexts = task.contexts() if told else None
    return _scored(task, task.name, split, examples, samples, contexts, loaded, engine, suite, seed)


def protocol_of(task: Task, asked: Asked, *, loaded: PromptFormat, suite: Suite) -> Protocol:
    """What `evaluate` would measure under now."""
    split, items, samples = asked
    examples = first_examples(task, split, items)
    return Protocol(protocol_hash(task, split, examples, suite, samples, loaded))


def further_sets(task: Task, suite: Suite) -> tuple[Probe, ...]:
    """What is scored beside test: the task's further test sets, and its training prompts.

    Each is as long as the suite wants it.
    """
    own = tuple(
        replace(probe, examples=probe.examples[: suite.probe_items]) for probe in task.probes()
    )
    if not suite.train_items:
        return own
    seen = task.examples("train")[: suite.train_items]
    summary = "prompts that are trained on"
    return (*own, Probe(TRAINING_PROMPTS, summary, seen, task.floors))


def evaluate_probe(
    task: Task,
    probe: Probe,
    *,
    told: bool,
    loaded: PromptFormat,
    engine: Engine,
    suite: Suite,
    seed: int,
) -> Score:
    """Score one of `further_sets` as `evaluate` scores test, under `probe_name`.

    ``told``: with the task's context, where the set itself has nothing read with its prompts.
    """
    contexts = task.contexts() if told else probe.told(task)
    return _scored(
        task, probe_name(task, probe), PROBE, probe.examples, suite.eval_samples, contexts, loaded,
        engine, suite, seed, _read_with(task, probe),
    )  # fmt: skip


def protocol_of_probe(task: Task, probe: Probe, suite: Suite, loaded: PromptFormat) -> Protocol:
    """What `evaluate_probe` would measure under now."""
    reads = _read_with(task, probe)
    samples = suite.eval_samples
    return Protocol(protocol_hash(task, PROBE, probe.examples, suite, samples, loaded, reads))


def _read_with(task: Task, probe: Probe) -> dict[str, Any]:
    """What a further test set's protocol holds beside a task's."""
    fixed = probe.told(task)
    return {"probe": probe.name, "reads": None if fixed is None else fixed.hash}


def probe_name(task: Task, probe: Probe) -> str:
    """The name under which a further test set's score is stored."""
    return f"{task.name}.{probe.name}"


def _scored(
    task: Task,
    name: str,
    split: str,
    examples: Sequence[Example],
    samples: int,
    contexts: Contexts | None,
    loaded: PromptFormat,
    engine: Engine,
    suite: Suite,
    seed: int,
    reads: Mapping[str, Any] | None = None,
) -> Score:
    """Graded samples of ``examples`` under a name; ``reads`` is more that the protocol holds."""
    told = contexts is not None
    chosen = [example for example in examples for _ in range(samples)]
    index = [sample for _ in examples for sample in range(samples)]
    names = [(name, split, seed, e.id, i) for e, i in zip(chosen, index, strict=True)]
    results = play(
        task,
        chosen,
        engine,
        loaded,
        eval_sampling(suite),
        seeds=[seed_of("eval", *name) for name in names],
        env_seeds=[seed_of("environment", *name) for name in names],
        context=None if contexts is None else [contexts.of(task.name, seed, e.id) for e in chosen],
        max_prompt_length=suite.max_prompt_length,
        overlong=suite.overlong,
    )
    rows = tuple(
        {**sample_row(task, split, told, sample, result), "task": name}
        for sample, result in zip(index, results, strict=True)
    )
    return Score(
        task=name,
        split=split,
        primary="accuracy",
        metrics=_metrics(rows),
        n=len(rows),
        n_unscored=sum(row["outcome"] in UNSCORED for row in rows),
        protocol_hash=protocol_hash(task, split, examples, suite, samples, loaded, reads),
        samples=tuple({**row, "score": score_of(row)} for row in rows),
    )


def sample_row(
    task: Task, split: str, told: bool, sample: int, result: Trajectory | Skipped
) -> dict[str, Any]:
    """What is kept of one graded sample, as JSON values."""
    head = {
        "task": task.name,
        "split": split,
        "reading": "told" if told else "plain",
        "example_id": result.example_id,
        "sample": sample,
    }
    if isinstance(result, Skipped):
        why = f"turn {result.turn + 1}: {result.length} tokens, above the limit of {result.limit}"
        return {**head, "outcome": "skipped", "score": None, "answer": None, "why": why,
                "turns": [], "tokens": 0}  # fmt: skip
    return {
        **head,
        "outcome": result.outcome,
        "score": result.grade.score,
        "answer": result.grade.answer,
        "why": result.grade.why,
        **({"also": dict(result.grade.also)} if result.grade.also else {}),
        "turns": [
            {"messages": list(turn.messages), "reply": turn.reply.text, "finish": turn.reply.finish}
            for turn in result.turns
        ],
        "tokens": sum(len(turn.reply.ids) for turn in result.turns),
    }


def _metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    scored = [row for row in rows if row["outcome"] not in UNSCORED]

    def mean(values: Sequence[float]) -> float | None:
        return sum(values) / len(values) if values else None

    others: Mapping[str, float] = next((row["also"] for row in scored if "also" in row), {})
    for row in scored:
        if (has := row.get("also", {}).keys()) != others.keys():
            raise CellFailed(
                f"task {row['task']!r} gives a grade also = {{{', '.join(map(repr, has))}}} where "
                f"another has {{{', '.join(map(repr, others))}}} ({row['example_id']}); a task "
                "that has other graders gives what they say in every grade"
            )
    return {
        "accuracy": mean([score_of(row) or 0.0 for row in scored]),
        **{name: mean([row["also"][name] for row in scored]) for name in others},
        "parse_rate": mean([row["score"] is not None for row in scored]),
        **{f"{kind}_rate": mean([row["outcome"] == kind for row in scored]) for kind in SCORED},
        **{f"{kind}_rate": mean([row["outcome"] == kind for row in rows]) for kind in UNSCORED},
        "reply_tokens": mean([row["tokens"] for row in scored]),
    }


def contexts_of(task: Task) -> Contexts:
    """The task's contexts; DataError if one is empty, since then there is nothing to distil."""
    contexts = task.contexts()
    if any(not context.text.strip() for context in contexts.pool):
        raise DataError(
            f"task {task.name!r} has an empty context, so its teacher knows no more than the "
            "student. It can be a retention task (--retention); to train on it (--tasks), give "
            "it a context with --context FILE"
        )
    return contexts
