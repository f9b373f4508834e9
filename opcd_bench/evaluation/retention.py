"""Scores what was never trained on: any lm-eval task, on the model in memory, before and after."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opcd_bench.envs import ifeval
from opcd_bench.envs.data_files import located
from opcd_bench.errors import DataWarning, MissingPackage
from opcd_bench.evaluation import retention_results as results
from opcd_bench.evaluation.retention_guard import nltk_data, quiet, untouched
from opcd_bench.evaluation.retention_tasks import (
    index_with,
    instruction_ids,
    load,
    shares,
    task_hash,
)
from opcd_bench.evaluation.scores import Protocol, Score
from opcd_bench.hashing import digest, text_digest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from opcd_bench.rollout.engine import Engine, Sampling


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
    date: str | None = None,
) -> list[Score]:
    """Score the model on lm-eval tasks by name, through ``lm_eval.simple_evaluate``.

    ``metrics``: lm-eval's name (with its filter, unless that is ``none``) -> value, and of tasks
    like IFEval ``<instruction type> strict``; of these `results.FOLLOWED` is the primary
    one, unless they are in `results.BY_PROMPT`. ``samples``: besides what every score's have,
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
    ``date`` is what a chat template that prints today's date prints.

    The model's mode, every random state and the tokenizer are left as they were found. Raises
    UnknownName, MissingPackage (what to install), DataError (documents that cannot be read, a
    prompt too long for the model, no metric that can stand beside accuracies).
    """
    _require_lm_eval()
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
                date=date,
            )
            for task in tasks
        ]


def _require_lm_eval() -> None:
    if importlib.util.find_spec("lm_eval") is None:
        raise MissingPackage("lm-eval", "pip install lm-eval", "retention is measured with it")


def check_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    *,
    decoding: Sampling,
    limit: int | None = None,
    data_dir: str | Path | None = None,
    seed: int = 0,
) -> dict[str, list[dict[str, Any]]]:
    """The documents of the tasks, all of whose prompts fit the model.

    Reads what `measure` would ask, and asks nothing: raises what it would before any answer.
    """
    data = located(data_dir)
    found: dict[str, list[dict[str, Any]]] = {}
    if not tasks:
        return found
    _require_lm_eval()
    with quiet(), untouched(model, seed), nltk_data(data):
        from opcd_bench.evaluation.lm_eval_model import Fitted, PromptCheck

        for name in tasks:
            manager = index_with(name)
            task = load(name, manager, data)
            ifeval.require_punkt(name, instruction_ids(task, limit))
            lm = PromptCheck(model, tokenizer, engine=None, seed=seed, batch_size=1)
            with contextlib.suppress(Fitted):
                _evaluated(lm, task, manager, decoding=decoding, limit=limit, seed=seed)
            found[name] = [dict(doc) for doc in list(task.eval_docs)[:limit]]
    return found


def local_documents(
    tasks: Sequence[str], data_dir: str | Path | None
) -> dict[str, list[dict[str, Any]]]:
    """The documents of those tasks that have a folder of their own in ``data_dir``."""
    data, found = located(data_dir), {}
    here = [name for name in tasks if data is not None and (data / name).is_dir()]
    if here:
        with quiet():
            for name in here:
                task = load(name, index_with(name), data)
                found[name] = [dict(doc) for doc in task.eval_docs]
    return found


def _evaluated(
    lm: Any, task: Any, manager: Any, *, decoding: Sampling, limit: int | None, seed: int
) -> Any:
    """What lm-eval makes of a task that is loaded."""
    from lm_eval import simple_evaluate

    return simple_evaluate(
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
    date: str | None,
) -> Score:
    begin = time.perf_counter()
    from opcd_bench.evaluation.lm_eval_model import ReplyLM

    manager = index_with(name)
    task = load(name, manager, data_dir)
    shares(name, task)  # refuses; a task may learn more of them while it is scored
    ifeval.require_punkt(name, instruction_ids(task, limit))
    lm = ReplyLM(model, tokenizer, engine=engine, seed=seed, batch_size=batch_size, date=date)
    protocol = _protocol(
        name, task, tokenizer, decoding=decoding, limit=limit, seed=seed, engine=engine
    )
    raw = _evaluated(lm, task, manager, decoding=decoding, limit=limit, seed=seed)
    samples = [
        results.sample(row, lm.said(row["arguments"][0][0]), lm.written.get((name, row["doc_id"])))
        for row in raw["samples"][name]
    ]
    metrics = results.metrics(raw["results"][name])
    if name not in results.BY_PROMPT:
        metrics |= results.with_shares(samples)
    by_instruction = results.by_instruction(samples)
    primary = results.primary(name, metrics, shares(name, task), samples)
    if primary == results.FOLLOWED or primary != next(iter(metrics)):
        protocol["primary"] = primary
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
        protocol_hash=_hash(protocol),
        samples=results.of_metric(name, primary, samples),
        details={
            "protocol": protocol,
            "task_hash": protocol["task_hash"],
            "task_version": protocol["task_version"],
            "lm_eval_version": protocol["lm_eval"],
            "by_instruction": by_instruction,
            "seconds": time.perf_counter() - begin,
        },
    )


def protocol_of(
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    decoding: Sampling,
    limit: int | None = None,
    data_dir: str | Path | None = None,
    seed: int = 0,
    engine: Engine | None = None,
) -> Protocol:
    """What `measure` would measure a task under now; raises as `check_documents` does."""
    _require_lm_eval()
    data = located(data_dir)
    with quiet(), nltk_data(data):
        task = load(name, index_with(name), data)
        protocol = _protocol(
            name, task, tokenizer, decoding=decoding, limit=limit, seed=seed, engine=engine
        )
    return Protocol(_hash(protocol), lambda primary: _hash({**protocol, "primary": primary}))


def _protocol(
    name: str,
    task: Any,
    tokenizer: PreTrainedTokenizerBase,
    *,
    decoding: Sampling,
    limit: int | None,
    seed: int,
    engine: Engine | None,
) -> dict[str, Any]:
    """All that the numbers of a task that is loaded depend on, but weights and primary metric."""
    return {
        "task": name,
        "task_version": str(task.VERSION),
        "task_hash": task_hash(task),
        "lm_eval": importlib.metadata.version("lm_eval"),
        "limit": limit,
        "decoding": gen_kwargs(decoding),
        "engine": "HFLM" if engine is None else engine.protocol_name,
        "seed": seed,
        "enable_thinking": False,
        "chat_template": text_digest(str(tokenizer.chat_template)),
    }


def _hash(protocol: Mapping[str, Any]) -> str:
    task, version = protocol["task_hash"], protocol["lm_eval"]
    return digest({"protocol": protocol, "task": task, "lm_eval": version})


def check_names(tasks: Sequence[str]) -> None:
    """Raise UnknownName or DataError for the first name that is no single lm-eval task.

    Call it before any work: a name that is in none of the near folders takes 14 s to look up.
    """
    with quiet():
        for task in tasks:
            index_with(task)


def check_documents(
    tasks: Sequence[str],
    data_dir: str | Path | None,
    limit: int | None,
    longest: int | None = None,
) -> None:
    """Read the documents that will be scored; DataError or MissingPackage where they cannot be.

    DataError also for a task without a metric that can stand beside accuracies; a DataWarning for
    one that lets responses be longer than ``longest`` tokens.

    Call it before a model is loaded: it is the first thing that `measure` would fail of.
    """
    data = located(data_dir)
    own: dict[str, int] = {}
    with quiet(), nltk_data(data):
        for task in tasks:
            loaded = load(task, index_with(task), data)
            shares(task, loaded)
            ifeval.require_punkt(task, instruction_ids(loaded, limit))
            settings = loaded.config.generation_kwargs or {}
            own[task] = int(settings.get("max_gen_toks") or 0)
    for task, most in own.items():
        if longest is not None and most > longest:
            warnings.warn(_shorter(task, most, longest), DataWarning, stacklevel=2)


def _shorter(task: str, most: int, longest: int) -> str:
    """That a task's responses are cut before lm-eval would."""
    return (
        f"retention task {task!r}: lm-eval lets a response have {most:,} tokens, and "
        f"retention_max_completion_length = {longest:,} cuts it there. Where training changes how "
        "long responses are, the score changes with it; the report says which share was cut. For "
        f"lm-eval's own length: --set retention_max_completion_length={most}"
    )


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
