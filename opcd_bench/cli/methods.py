"""`opcd-bench methods`: every method with its three choices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from opcd_bench.cli import settings
from opcd_bench.cli.output import Json, exit_if, print_broken, print_json, text_table
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
from opcd_bench.distillation.losses.scheduled import Taid
from opcd_bench.distillation.method import Method
from opcd_bench.distillation.parameters import values
from opcd_bench.runner import registry
from opcd_bench.runner.registry import Origin


def methods(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[METHOD]…",
            help="Only these: names (opcd), with parameters ('opcd\\[k=4]'), or files (./mine.py).",
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
    return {
        "name": method.name,
        "summary": method.summary,
        "writer": _stages(method, _writer),
        "loss": _stages(method, _loss),
        "support": _support(method.loss),
        "teacher": _stages(method, _teacher),
        "source": method.source,
        "control": method.control,
        "parameters": values(method),
        "origin": origin.by,
        "file": str(origin.file),
        "describe": dict(method.describe()),
    }


def _stages(method: Method, told: Callable[[Method], str]) -> str:
    """What a method says of each of its stages, once where all say the same."""
    return ", then ".join(dict.fromkeys(told(part) for part in method.parts))


def _loss(method: Method) -> str:
    described = method.describe()["loss"]
    return str(described["id"] if "id" in described else described["callable"])


def _writer(method: Method) -> str:
    writer = method.writer
    reads = "" if writer.reads == "context" else f", reads the {writer.reads}"
    return {
        "student": "student",
        "teacher": f"in-context teacher{reads}",
        "mixture": f"in-context teacher {writer.teacher_share:.0%}{reads}, else student",
        "stored": f"stored: {writer.path}",
    }[writer.kind]


def _support(loss: Any) -> str:
    if isinstance(loss, PolicyGradient):
        return "the sampled token"
    if isinstance(loss, Taid):
        return "full vocabulary"
    if not isinstance(loss, Divergence):
        return "its own"
    if loss.support in ("full", "sampled"):
        return {"full": "full vocabulary", "sampled": "the sampled token"}[loss.support]
    return f"{loss.support.replace('_', ' ')} = {loss.k}, outside: {loss.outside}"


def _teacher(method: Method) -> str:
    teacher = method.teacher
    if not method.needs_teacher and method.writer.on_policy:
        return "none"
    rate = f"({teacher.rate})" if teacher.rate is not None else ""
    if teacher.by is not None:
        told = ", told the context" if teacher.by_reads == "context" else ""
        rate = f"(by {teacher.by}{told})"
    shuffled = ", rows shuffled" if teacher.rows == "shuffled" else ""
    return f"{teacher.weights}{rate}, reads {teacher.reads}{shuffled}"
