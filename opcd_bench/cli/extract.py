"""`opcd-bench extract`: contexts from a model's own attempts at train examples."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opcd_bench.cli.interrupt import interruptible
from opcd_bench.cli.output import Json, print_json, text_table
from opcd_bench.envs.task import Task
from opcd_bench.errors import ConfigError, UnknownName
from opcd_bench.progress import reporter
from opcd_bench.runner import registry

if TYPE_CHECKING:
    from opcd_bench.experience.recipe import Extracted

PROMPTS = ("auto", "micro", "general")
ENGINES = ("hf", "vllm")

TaskName = Annotated[
    str, typer.Option("--task", help="Task, by name or file; list: opcd-bench tasks.")
]
Model = Annotated[str, typer.Option(help="Hub id, folder, or 'micro' (built in).")]
Revision = Annotated[str | None, typer.Option(help="Revision of a Hub model.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
Batch = Annotated[int, typer.Option("--batch-size", min=1, help="Replies written at a time.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads (default: torch's choice).")]
EngineName = Annotated[str, typer.Option("--engine", help="hf (transformers) or vllm.")]
VllmUrl = Annotated[
    str | None, typer.Option(metavar="URL", help="A running vLLM server (--engine vllm).")
]
Thinking = Annotated[
    bool, typer.Option("--enable-thinking", help="Let models that can think before they answer.")
]
Trust = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run the Python code that the model brings.")
]
History = Annotated[str, typer.Option(help="What a game shows at each turn: last or full.")]
DataDir = Annotated[
    str | None, typer.Option(help="Folder with local data files, in place of the Hub.")
]
TopP = Annotated[float, typer.Option(help="Nucleus of the attempts.")]
TopK = Annotated[int, typer.Option(help="Top-k of the attempts; 0 is off.")]
Length = Annotated[int, typer.Option("--max-completion-length", help="Most tokens of a reply.")]


def extract(
    context: typer.Context,
    task: TaskName,
    out: Annotated[Path, typer.Option(help="Folder of the stages and the contexts.")],
    model: Model = "micro",
    items: Annotated[int, typer.Option(help="Attempts of each seed.")] = 30,
    seeds: Annotated[int, typer.Option(help="Sampling seeds: a context each.")] = 10,
    variant: Annotated[
        str, typer.Option(help="memoryless, with-previous, or raw-traces (the control).")
    ] = "memoryless",
    accumulate: Annotated[
        str, typer.Option(help="What is kept: newest, newest-with-repeats or consensus.")
    ] = "newest",
    max_context_tokens: Annotated[int, typer.Option(help="Most tokens of a context.")] = 1024,
    until: Annotated[
        str, typer.Option(help="Last stage: traces, reflections, items or contexts.")
    ] = "contexts",
    temperature: Annotated[float, typer.Option(help="Of the attempts.")] = 1.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    max_completion_length: Length = 128,
    reflect_temperature: Annotated[
        float, typer.Option(help="Of the reflections; 0 is greedy.")
    ] = 0.0,
    max_reflection_length: Annotated[int, typer.Option(help="Most tokens of a reflection.")] = 512,
    prompts: Annotated[
        str, typer.Option(help="auto, micro (the built-in model's own) or general.")
    ] = "auto",
    cite: Annotated[
        bool, typer.Option("--cite", help="Ask told solvers to say which lessons they used.")
    ] = False,
    history: History = "last",
    data_dir: DataDir = None,
    revision: Revision = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: Batch = 128,
    threads: Threads = None,
    engine: EngineName = "hf",
    vllm_url: VllmUrl = None,
    enable_thinking: Thinking = False,
    trust_remote_code: Trust = False,
    json: Json = False,
) -> None:
    """Extract experience: solve plain, reflect on the own attempts, keep the lessons as contexts.

    Reads train alone, and never a reference answer. Each stage lies in --out; the same command goes
    on where it was stopped.
    """
    found = registry.task(task, history=history, data_dir=data_dir)
    from opcd_bench.experience import items as accumulation
    from opcd_bench.experience import reader, recipe
    from opcd_bench.experience.extract import Extraction
    from opcd_bench.experience.prompts import prompts_for
    from opcd_bench.rollout.engine import Sampling

    made = recipe.Recipe(
        items=items,
        seeds=seeds,
        variant=one_of("variant", variant, recipe.VARIANTS),
        accumulate=one_of("rule of accumulation", accumulate, accumulation.RULES),
        max_context_tokens=max_context_tokens,
        solving=Sampling(temperature, top_p, top_k, max_completion_length),
        reflecting=Sampling(reflect_temperature, top_p, top_k, max_reflection_length),
        batch=batch_size,
    )
    last = one_of("stage", until, recipe.STAGES)
    words = prompts_for(found, model, one_of("kind of prompts", prompts, PROMPTS), cite=cite)
    with interruptible(context, "What is stored stays"):
        read = reader.opened(
            model,
            revision=revision,
            device=device,
            dtype=dtype,
            batch=batch_size,
            threads=threads,
            engine=engine_named(engine, vllm_url),
            vllm_url=vllm_url,
            enable_thinking=enable_thinking,
            trust_remote_code=trust_remote_code,
        )
        extraction = Extraction(found, made, words, read, out, reporter())
        results = extraction.run(last)
    if json:
        print_json({"out": str(out), "contexts": [_row(one) for one in results]})
    elif not results:
        print(f"{last} are in {out}; to go on, leave out --until {last}")
    else:
        _print(found, model, out / made.variant, results)


def engine_named(engine: str, vllm_url: str | None) -> str:
    """The engine, if there is one of that name and a server is given to vLLM alone."""
    if vllm_url is not None and engine != "vllm":
        raise ConfigError("--vllm-url is given; say --engine vllm with it")
    found: str = one_of("engine", engine, ENGINES)
    return found


def one_of(kind: str, word: str, allowed: Sequence[Any]) -> Any:
    """``word`` where it is allowed; UnknownName with the nearest words where not."""
    if word not in allowed:
        raise UnknownName(kind, word, allowed)
    return word


def _row(one: Extracted) -> dict[str, Any]:
    return {
        "seed": one.seed,
        "context": None if one.path is None else str(one.path),
        "attempts": dict(one.statuses),
        "items": one.items,
        "kept": one.kept,
        "tokens": one.tokens,
    }


def _print(task: Task, model: str, folder: Path, results: Sequence[Extracted]) -> None:
    statuses: Mapping[str, int] = results[0].statuses
    shown = [name for name in statuses if any(one.statuses[name] for one in results)]
    columns = ["seed", *shown, "items", "kept", "tokens", "context"]
    rows = [
        [
            one.seed,
            *(one.statuses[name] for name in shown),
            one.items,
            one.kept,
            one.tokens,
            one.path,
        ]
        for one in results
    ]
    print(text_table(columns, rows))
    path = next(one.path for one in results if one.path is not None)
    chosen = ["opcd-bench", "select", "--task", task.name, "--model", model, "--contexts"]
    print(f"\nThe best of them on dev: {shlex.join([*chosen, str(folder)])}")
    run = ["opcd-bench", "run", "--suite", "quick", "--tasks", task.name, "--model", model]
    print(f"Train with one of them:  {shlex.join([*run, '--context', str(path)])}")
