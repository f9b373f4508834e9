"""`opcd-bench select`: one context (or a pool) of a folder, chosen on dev, drawn, or the first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from opcd_bench.cli.extract import (
    Batch,
    DataDir,
    Device,
    Dtype,
    EngineName,
    History,
    Length,
    Model,
    Revision,
    TaskName,
    Thinking,
    Threads,
    Trust,
    VllmUrl,
    engine_named,
)
from opcd_bench.cli.interrupt import interruptible
from opcd_bench.cli.output import Json, print_json, text_table
from opcd_bench.progress import reporter
from opcd_bench.runner import registry

if TYPE_CHECKING:
    from opcd_bench.experience.select import Chosen


def select(
    context: typer.Context,
    task: TaskName,
    contexts: Annotated[Path, typer.Option(help="Folder of the candidates: *.json, *.txt.")],
    rule: Annotated[
        str, typer.Option("--select", help="best (on dev), random, or first-N (a pool of N).")
    ] = "best",
    out: Annotated[
        Path | None, typer.Option(help="The chosen context (default: selected/ below the folder).")
    ] = None,
    model: Model = "micro",
    seed: Annotated[int, typer.Option(help="Of random, and of sampled decoding.")] = 0,
    first_items: Annotated[
        int, typer.Option(min=1, help="Dev examples of the first round; each next one doubles.")
    ] = 16,
    dev_items: Annotated[int, typer.Option(min=1, help="Most dev examples.")] = 200,
    temperature: Annotated[float, typer.Option(help="Of the scored replies; 0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Nucleus of the scored replies.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Top-k of the scored replies; 0 is off.")] = 0,
    max_completion_length: Length = 128,
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
    """Choose among extracted contexts; test is never read.

    ``best`` scores all on a few dev examples, keeps the better half, doubles the examples, and so
    on. The same command goes on where it was stopped.
    """
    found = registry.task(task, history=history, data_dir=data_dir)
    from opcd_bench.experience import reader
    from opcd_bench.experience.select import Selection
    from opcd_bench.rollout.engine import Sampling

    writer = engine_named(engine, vllm_url)
    selection = Selection(
        found,
        contexts,
        rule,
        seed,
        Sampling(temperature, top_p, top_k, max_completion_length),
        first_items,
        dev_items,
    )
    with interruptible(context, "What is stored stays"):
        chosen, paths = selection.run(
            out,
            lambda: reader.opened(
                model,
                revision=revision,
                device=device,
                dtype=dtype,
                batch=batch_size,
                threads=threads,
                engine=writer,
                vllm_url=vllm_url,
                enable_thinking=enable_thinking,
                trust_remote_code=trust_remote_code,
            ),
            reporter(),
        )
    if json:
        print_json({"contexts": [str(path) for path in paths], **_values(chosen)})
        return
    _print(chosen)
    named = ", ".join(f'"{path}"' for path in paths)
    print(f"chosen: {', '.join(chosen.names)}")
    print(f"In a suite: context = {named if len(paths) == 1 else f'[{named}]'}")


def _values(chosen: Chosen) -> dict[str, Any]:
    return {
        "chosen": list(chosen.names),
        "rounds": [{"items": r.items, "scores": dict(r.scores)} for r in chosen.rounds],
        "plain": chosen.plain,
        "cost": None if chosen.cost is None else dict(chosen.cost),
    }


def _print(chosen: Chosen) -> None:
    """Scores in % by round, and what they cost."""
    if not chosen.rounds or chosen.cost is None:
        return
    names = list(chosen.rounds[0].scores)
    columns = ["context", *(f"{r.items} dev" for r in chosen.rounds)]
    rows = [[n, *(_percent(r.scores.get(n)) for r in chosen.rounds)] for n in names]
    blank: list[str | None] = [None] * (len(chosen.rounds) - 1)
    print(text_table(columns, [*rows, ["(none)", *blank, _percent(chosen.plain)]]))
    cost = chosen.cost
    print(
        f"\n{cost['samples']} samples scored (all contexts on all of them: "
        f"{cost['samples_of_all_on_all']}), {cost['prompt_tokens']} tokens read and "
        f"{cost['tokens_written']} written"
    )


def _percent(score: float | None) -> str | None:
    return None if score is None else f"{100 * score:.1f}"
