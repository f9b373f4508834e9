"""`opcd-bench methods`: every method with its three choices."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from opcd_bench.cli import settings
from opcd_bench.cli.output import Json, exit_if, print_broken, print_json, text_table
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.method import Method
from opcd_bench.distillation.parameters import values
from opcd_bench.runner import registry
from opcd_bench.runner.registry import Origin


def methods(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[METHOD]…",
            help="Only these: names (opcd), with parameters ('opcd[k=4]'), or files (./mine.py).",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the methods and their choices; exit 1 if one is broken."""
    named = [word for text in words for word in settings.names(text)] if words else None
    listing = registry.listed_methods(named)
    rows = [_row(method, listing.origins[name]) for name, method in listing.found.items()]
    if json:
        print_json(
            {
                "methods": rows,
                "broken": {name: str(error) for name, error in listing.broken.items()},
            }
        )
    else:
        rows.sort(key=lambda row: bool(row["control"]))
        keys = ["writer", "loss", "support", "teacher", "origin", "source"]
        print(
            text_table(
                ["method", "rollout policy", *keys[1:]],
                [
                    [
                        row["name"] + (" (control)" if row["control"] else ""),
                        *(row[key] for key in keys),
                    ]
                    for row in rows
                ],
            )
        )
        print(
            "\nParameters in brackets change one of these choices: 'opcd[k=4]', "
            "'opcd[k=4,support=union]'; those of a method, with its values: opcd-bench methods "
            "NAME --json"
        )
    print_broken(listing.broken)
    exit_if(bool(listing.broken))


def _row(method: Method, origin: Origin) -> dict[str, Any]:
    loss = method.loss
    known = isinstance(loss, Divergence)
    described = method.describe()["loss"]
    return {
        "name": method.name,
        "summary": method.summary,
        "writer": _writer(method),
        "loss": described["id"] if known else described["callable"],
        "support": _support(loss) if isinstance(loss, Divergence) else "its own",
        "teacher": _teacher(method),
        "source": method.source,
        "control": method.control,
        "parameters": values(method),
        "origin": origin.by,
        "file": str(origin.file),
        "describe": dict(method.describe()),
    }


def _writer(method: Method) -> str:
    writer = method.writer
    return {
        "student": "student",
        "teacher": "in-context teacher",
        "mixture": f"in-context teacher {writer.teacher_share:.0%}, else student",
        "stored": f"stored: {writer.path}",
    }[writer.kind]


def _support(loss: Divergence) -> str:
    if loss.support in ("full", "sampled"):
        return {"full": "full vocabulary", "sampled": "the sampled token"}[loss.support]
    return f"{loss.support.replace('_', ' ')} = {loss.k}, outside: {loss.outside}"


def _teacher(method: Method) -> str:
    teacher = method.teacher
    rate = f"({teacher.rate})" if teacher.rate is not None else ""
    shuffled = ", rows shuffled" if teacher.rows == "shuffled" else ""
    return f"{teacher.weights}{rate}, reads {teacher.reads}{shuffled}"
