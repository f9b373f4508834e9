"""Scores what was never trained on: any lm-eval task, on the model in memory, before and after."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opcd_bench.envs.data_files import located
from opcd_bench.errors import MissingPackage
from opcd_bench.evaluation import ifeval
from opcd_bench.evaluation.retention_guard import nltk_data, quiet, untouched
from opcd_bench.evaluation.retention_tasks import index_with, instruction_ids, load, task_hash
from opcd_bench.evaluation.scores import Score
from opcd_bench.hashing import digest, text_digest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from opcd_bench.rollout.engine import Engine, Sampling


FOLLOWED = "instructions_followed"
"""Share of a prompt's instructions that are followed, strictly; averaged over the prompts."""

BY_PROMPT = frozenset({"ifeval_micro"})
"""Tasks that are scored by whole prompts, as stored results have them."""


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    *,
    decoding: Sampling,
    limit: int | None = None,
    data_dir: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
    batch_size: int = 64,
) -> list[Score]:
    """Score the model on lm-eval tasks by name, through ``lm_eval.simple_evaluate``.

    ``metrics``: lm-eval's name (with its filter, unless that is ``none``) -> value, and of tasks
    like IFEval ``<instruction type> strict``; of these `FOLLOWED` is the primary one, unless they
    are in `BY_PROMPT`. ``samples``: besides what every score's have,
    ``doc_id``, ``prompt`` (as the model read it), ``reply`` (as it was written; None for tasks that
    score given answers), ``graded`` (without thinking and stop strings), ``finish``, ``filter``,
    ``values`` (metric -> value) and ``instruction_ids``. ``details``: ``protocol`` (all that the
    numbers depend on besides the weights), ``task_hash``, ``task_version``, ``lm_eval_version``,
    ``by_instruction`` (type -> ``n``, ``strict``, ``loose``: shares of instructions followed) and
    ``seconds``.

    The chat template is applied, thinking off. ``engine`` writes the replies (each with noise of
    its own, hashed from task, prompt and ``seed``); without one lm-eval's own HFLM does, in batches
    of ``batch_size``. ``limit``: only the first documents. ``data_dir``: read a task's documents
    from ``<data_dir>/<task>/`` if that folder is there, from the Hub otherwise.

    The model's mode, every random state and the tokenizer are left as they were found. Raises
    UnknownName, MissingPackage (what to install), DataError (documents that cannot be read, a
    prompt too long for the model).
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingPackage("lm-eval", "pip install lm-eval", "retention is measured with it")
    data = located(data_dir)
    with quiet(), untouched(model, seed), nltk_data(data):
        return [
            _one(
                model,
                tokenizer,
                task,
                decoding=decoding,
                limit=limit,
                data_dir=data,
                seed=seed,
                engine=engine,
                batch_size=batch_size,
            )
            for task in tasks
        ]


def _one(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    *,
    decoding: Sampling,
    limit: int | None,
    data_dir: Path | None,
    seed: int,
    engine: Engine | None,
    batch_size: int,
) -> Score:
    begin = time.perf_counter()
    from lm_eval import simple_evaluate

    from opcd_bench.evaluation.lm_eval_model import ReplyLM

    manager = index_with(name)
    task = load(name, manager, data_dir)
    ifeval.require_punkt(name, instruction_ids(task, limit))
    lm = ReplyLM(model, tokenizer, engine=engine, seed=seed, batch_size=batch_size)
    raw = simple_evaluate(
        model=lm,
        tasks=[task],
        task_manager=manager,
        limit=limit,
        apply_chat_template=True,
        gen_kwargs=gen_kwargs(decoding) if task.OUTPUT_TYPE == "generate_until" else None,
        log_samples=True,
        bootstrap_iters=0,
        random_seed=None,
        numpy_random_seed=None,
        torch_random_seed=None,
        # Seeds the task's own generator and no other: few-shot examples stay the same ones.
        fewshot_random_seed=seed % 2**32,
    )
    lm_eval_version = importlib.metadata.version("lm_eval")
    version = str(raw["versions"].get(name, "none"))
    hashed = task_hash(task)
    samples = [_sample(row, lm.written.get((name, row["doc_id"]))) for row in raw["samples"][name]]
    metrics = _metrics(raw["results"][name])
    if name not in BY_PROMPT:
        metrics |= _with_shares(samples)
    by_instruction = _by_instruction(samples)
    protocol = {
        "task": name,
        "task_version": version,
        "task_hash": hashed,
        "lm_eval": lm_eval_version,
        "limit": limit,
        "decoding": gen_kwargs(decoding),
        "engine": "HFLM" if engine is None else engine.protocol_name,
        "seed": seed,
        "enable_thinking": False,
        "chat_template": text_digest(str(tokenizer.chat_template)),
    }
    primary = _primary(metrics)
    if primary == FOLLOWED:
        protocol["primary"] = FOLLOWED
    return Score(
        task=name,
        split="retention",
        primary=primary,
        metrics={
            **metrics,
            **{f"{kind} strict": values["strict"] for kind, values in by_instruction.items()},
        },
        n=int(raw["n-samples"][name]["effective"]),
        n_unscored=0,
        protocol_hash=digest({"protocol": protocol, "task": hashed, "lm_eval": lm_eval_version}),
        samples=_of_metric(name, primary, samples),
        details={
            "protocol": protocol,
            "task_hash": hashed,
            "task_version": version,
            "lm_eval_version": lm_eval_version,
            "by_instruction": by_instruction,
            "seconds": time.perf_counter() - begin,
        },
    )


def _primary(metrics: Mapping[str, float]) -> str:
    """The metric that tables show: IFEval's share of instructions, else the first."""
    if FOLLOWED in metrics:
        return FOLLOWED
    return next(
        (m for m in metrics if m.startswith("prompt_level_strict_acc")), next(iter(metrics))
    )


def _with_shares(samples: Sequence[dict[str, Any]]) -> dict[str, float]:
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


def _of_metric(
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


def check_names(tasks: Sequence[str]) -> None:
    """Raise UnknownName or DataError for the first name that is no single lm-eval task.

    Call it before any work: a name that is in none of the near folders takes 14 s to look up.
    """
    with quiet():
        for task in tasks:
            index_with(task)


def gen_kwargs(decoding: Sampling) -> dict[str, Any]:
    """``decoding`` in lm-eval's words."""
    if decoding.greedy:
        return {
            "do_sample": False,
            "temperature": 0.0,
            "max_gen_toks": decoding.max_completion_length,
        }
    return {
        "do_sample": True,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": decoding.top_k,
        "max_gen_toks": decoding.max_completion_length,
    }


def _metrics(results: Mapping[str, Any]) -> dict[str, float]:
    values = {}
    for key, value in results.items():
        metric, _, chosen = key.partition(",")
        if isinstance(value, (int, float)) and chosen and not metric.endswith("_stderr"):
            values[metric if chosen == "none" else f"{metric},{chosen}"] = float(value)
    return values


def _sample(row: Mapping[str, Any], written: Sequence[Any] | None) -> dict[str, Any]:
    sample = {
        "id": row["doc_hash"][:16],
        "doc_id": row["doc_id"],
        "prompt": row["arguments"][0][0],
        "reply": written[0].text if written else None,
        "graded": row["filtered_resps"][0] if written else None,
        "finish": written[0].finish if written else None,
        "filter": row["filter"],
        "values": {metric: row[metric] for metric in row["metrics"]},
    }
    if "instruction_id_list" in row["doc"]:
        sample["instruction_ids"] = list(row["doc"]["instruction_id_list"])
    return sample


def _by_instruction(samples: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
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


def probe() -> list[tuple[str, bool, str]]:
    """What retention needs: name, whether it is there, and what to type where it is not."""
    found = [
        (name, importlib.util.find_spec(module) is not None, f"pip install {name}")
        for name, module in (
            ("lm-eval", "lm_eval"),
            ("accelerate", "accelerate"),
            ("nltk", "nltk"),
            ("langdetect", "langdetect"),
            ("immutabledict", "immutabledict"),
        )
    ]
    has_nltk = importlib.util.find_spec("nltk") is not None
    punkt = has_nltk and ifeval.has_punkt()
    return [*found, ("nltk punkt_tab data (ifeval only)", punkt, ifeval.GET_PUNKT)]
