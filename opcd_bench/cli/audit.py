"""`opcd-bench audit`: how far each loss's gradient is from the full reverse KL's."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from opcd_bench.cli import settings
from opcd_bench.cli.output import Json, print_json, text_table
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.errors import ConfigError
from opcd_bench.progress import reporter
from opcd_bench.runner import registry

HEADINGS = {
    "cosine": "cosine",
    "norm_ratio": "norm ratio",
    "bias_ratio": "bias ratio",
    "student_mass_outside": "student mass outside",
    "teacher_mass_outside": "teacher mass outside",
    "no_gradient_share": "positions without gradient",
}


def audit(
    method: Annotated[
        list[str],
        typer.Option(
            "--method",
            help="Methods whose losses are audited: opcd,'opcd[k=4]',./mine.py (repeatable).",
        ),
    ],
    task: Annotated[str, typer.Option(help="The task whose trajectories are read.")] = "rule_math",
    model: Annotated[str | None, typer.Option(help="Student: Hub id, folder, or 'micro'.")] = None,
    items: Annotated[int, typer.Option(min=1, help="Examples of which replies are stored.")] = 32,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = None,
    json: Json = False,
) -> None:
    """Compare losses on one stored batch of real trajectories: bias, mass outside, dead positions.

    The reference is the gradient of the full reverse KL with respect to the student's logits.
    """
    names = list(dict.fromkeys(name for text in method for name in settings.names(text)))
    words = {"methods": names, "tasks": [task], "model": model, "device": device}
    suite = settings.make(None, words)
    methods = list(registry.methods_of(suite).values())
    for one in methods:
        if not isinstance(one.loss, Divergence):
            raise ConfigError(
                f"audit: the loss of {one.name!r} is a function of its own, whose support and "
                "expectation are not known; audit methods whose loss is a Divergence"
            )
    from opcd_bench.runner import audit_batch

    rows = [dataclasses.asdict(row) for row in audit_batch.rows(suite, methods, items, reporter())]
    if json:
        print_json({"task": suite.tasks[0], "items": items, "rows": rows})
        return
    columns = ["method", "loss", "expectation", *HEADINGS.values()]
    table = [
        [name, row["id"], row["averaged"], *(_rounded(row[field]) for field in HEADINGS)]
        for name, row in zip(suite.methods, rows, strict=True)
    ]
    print(text_table(columns, table))
    positions = rows[0]["positions"] if rows else 0
    print(
        f"\n{positions} reply positions of {items} examples of {suite.tasks[0]}; ratios are to the "
        "logit gradient of the full reverse KL. expectation: over the written token, exactly, by "
        "the writer's probabilities, or over the stored replies alone (noisy)."
    )


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
