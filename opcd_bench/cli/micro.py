"""`opcd-bench micro`: the built-in model: rebuild it, measure its card, find its folder."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from opcd_bench.cli.interrupt import interruptible
from opcd_bench.cli.output import Json
from opcd_bench.errors import ModelError

app = typer.Typer(
    help="The built-in model: its folder, its card, and its pre-training.", no_args_is_help=True
)


Size = Annotated[
    str, typer.Option(help="Which size: micro-small (1 million parameters) or micro (4).")
]


def _checked(size: str) -> str:
    from opcd_bench.models.micro.recipe import SIZES

    if size not in SIZES:
        raise ModelError(f"--size {size} does not exist; use one of {', '.join(SIZES)}")
    return size


@app.command("path")
def path(size: Size = "micro-small") -> None:
    """Print the folder of the built-in model."""
    from opcd_bench.models.source import source_of

    print(source_of(_checked(size)))


@app.command("pretrain")
def pretrain(
    context: typer.Context,
    size: Size = "micro-small",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for weights, checkpoint and log (default: scratch/SIZE)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of data, weights and tokenizer.")] = 0,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens to train on (default: the recipe's).")
    ] = None,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda …")] = "auto",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start from the beginning instead of resuming.")
    ] = False,
) -> None:
    """Pre-train the built-in model from its seed; the same command resumes."""
    from opcd_bench.models import loading
    from opcd_bench.models.micro import pretrain as pretraining
    from opcd_bench.models.micro.recipe import SIZES, TOKENS

    recipe = SIZES[_checked(size)]
    out = out or Path("scratch") / size
    pretraining.refuse_foreign(out)
    loading.device_of(device)
    print(f"pre-training into {out}; progress is logged in {out / 'log.jsonl'}", file=sys.stderr)
    with interruptible(context, "The last checkpoint stays", without=["--fresh"]):
        model = pretraining.pretrain(
            out,
            seed=seed,
            tokens=tokens or TOKENS[size],
            resume=not fresh,
            device=device,
            recipe=recipe,
        )
    print(model)


@app.command("card")
def card(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of a model (default: the built-in one).")
    ] = None,
    size: Size = "micro-small",
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure again, and write the card into the folder.")
    ] = False,
    items: Annotated[int, typer.Option(min=1, help="Items per task, for --measure.")] = 500,
    pretraining: Annotated[
        Path | None,
        typer.Option(help="Folder that `micro pretrain` wrote, for its recipe and log."),
    ] = None,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda …")] = "auto",
    json: Json = False,
) -> None:
    """Print what the built-in model can do, as measured; or measure it."""
    from opcd_bench.models.source import source_of

    place = folder or Path(source_of(_checked(size)))
    if measure:
        from opcd_bench.runner import micro_card as cards

        cards.measure(place, name=size, items=items, device=device, pretraining=pretraining)
    file = place / ("card.json" if json else "CARD.md")
    if not file.is_file():
        raise ModelError(
            f"{file} does not exist: this model has no card yet. Type: opcd-bench micro card "
            f"{shlex.quote(str(place))} --measure"
        )
    print(file.read_text(encoding="utf-8").rstrip())
