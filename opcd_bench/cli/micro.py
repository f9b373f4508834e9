"""`opcd-bench micro`: the built-in model: rebuild it, read its card, find its folder."""

from __future__ import annotations

import typer

app = typer.Typer(help="The built-in model and its world.", no_args_is_help=True)


@app.command("path")
def path() -> None:
    """Print the folder of the built-in model."""
    from opcd_bench import micro

    print(micro.folder())
