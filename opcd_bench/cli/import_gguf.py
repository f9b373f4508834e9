"""`opcd-bench import-gguf`: a GGUF file as a Hugging Face folder that suites can name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from opcd_bench.cli.output import Json, print_json, say


def import_gguf(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A GGUF file, or a wheel (.whl) that holds one.")
    ],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="New folder for the model. Called MODELS/OWNER/NAME, it is found by the Hub's "
            "name OWNER/NAME with --model-dir MODELS.",
        ),
    ],
    dtype: Annotated[
        str,
        typer.Option(
            metavar="float32|bfloat16|float16",
            help="Data type of the stored weights. float32 holds what the file has; the others "
            "take half the space and round.",
        ),
    ] = "float32",
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="SHA-256 that FILE must have.")
    ] = None,
    json: Json = False,
) -> None:
    """Convert a GGUF file: dequantised weights, tokenizer and chat template in a new folder.

    The folder is whole or not there at all. Its weights are not those that the Hub has under the
    same name, and are kept apart from them in every comparison.
    """
    from opcd_bench.models import gguf

    made = gguf.convert(file, folder, dtype=dtype, sha256=sha256)
    if json:
        print_json({"folder": str(folder), **made})
        return
    say(f"{folder}: {made['file']} ({made['quantisation']}) as {made['dtype']}")
    say(f"Weights: SHA-256 {made['weights']}")
