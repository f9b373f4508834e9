"""`opcd-bench methods`: every method with its three choices."""

from __future__ import annotations

from typing import Any

from opcd_bench.cli.output import Json, exit_if, print_broken, print_json, text_table
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.method import Method
from opcd_bench.runner import registry


def methods(json: Json = False) -> None:
    """List the methods: writer, loss, support, teacher, source; exit 1 if one does not load."""
    listing = registry.listed_methods()
    if json:
        print_json(
            {
                "methods": [_row(method) for method in listing.found.values()],
                "broken": {name: str(error) for name, error in listing.broken.items()},
            }
        )
    else:
        rows = sorted(map(_row, listing.found.values()), key=lambda row: row["control"])
        columns = ["method", "writer", "loss", "support", "teacher", "source"]
        print(
            text_table(
                columns,
                [
                    [
                        row["name"] + (" (control)" if row["control"] else ""),
                        *(row[column] for column in columns[1:]),
                    ]
                    for row in rows
                ],
            )
        )
    print_broken(listing.broken)
    exit_if(bool(listing.broken))


def _row(method: Method) -> dict[str, Any]:
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
        "file": str(registry.plugin_files(registry.METHODS_PACKAGE)[method.name]),
        "describe": dict(method.describe()),
    }


def _writer(method: Method) -> str:
    writer = method.writer
    return {
        "student": "plain student",
        "teacher": "told teacher",
        "mixture": f"told teacher {writer.teacher_share:.0%}, else plain student",
        "stored": f"stored: {writer.path}",
    }[writer.kind]


def _support(loss: Divergence) -> str:
    if loss.support in ("full", "sampled"):
        return {"full": "full vocabulary", "sampled": "the written token"}[loss.support]
    return f"{loss.support.replace('_', ' ')} = {loss.k}, outside: {loss.outside}"


def _teacher(method: Method) -> str:
    teacher = method.teacher
    rate = f"({teacher.rate})" if teacher.rate is not None else ""
    shuffled = ", rows shuffled" if teacher.rows == "shuffled" else ""
    return f"{teacher.weights}{rate}, reads {teacher.reads}{shuffled}"
