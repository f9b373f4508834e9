"""`opcd-bench audit`: how far each loss's gradient is from the full reverse KL's."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from opcd_bench.cli import settings
from opcd_bench.cli.output import Json, print_json, text_table
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.scheduled import forms
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
            "--methods",
            "--method",
            help="Methods whose losses are audited, by name (opcd), with parameters "
            "('opcd\\[k=4]'), or as files (./mine.py): repeatable, or with commas between them.",
        ),
    ],
    task: Annotated[
        str, typer.Option("--tasks", "--task", help="Task whose trajectories are used.")
    ] = "rule_math",
    model: Annotated[
        str | None, typer.Option(help="Student: Hub id, local folder, or 'micro-small' (built in).")
    ] = None,
    items: Annotated[
        int, typer.Option(min=1, help="Number of examples; each has one response.")
    ] = 32,
    device: Annotated[str | None, typer.Option(help="Device: auto, cpu, cuda, cuda:1 …")] = None,
    json: Json = False,
) -> None:
    """Compare the gradients of losses on one stored batch of trajectories.

    Shown are the bias against the full reverse KL (gradient with respect to the student's logits),
    the probability mass outside the support, and the positions without any gradient.
    """
    names = list(dict.fromkeys(name for text in method for name in settings.names(text)))
    words = {"methods": names, "tasks": [task], "model": model, "device": device}
    suite = settings.make(None, words)
    methods = list(registry.methods_of(suite).values())
    for one in methods:
        if not all(isinstance(form, Divergence) for form in forms(one.loss)):
            raise ConfigError(
                f"audit: the loss of {one.name!r} is a custom function or reads rewards, so its "
                "support and its expectation are not known; audit methods whose loss is a "
                "Divergence, or changes from one to another (taid)"
            )
    from opcd_bench.runner import audit_batch

    found = audit_batch.rows(suite, methods, items, reporter())
    rows = [{"method": name, **dataclasses.asdict(row)} for name, row in found]
    if json:
        print_json({"task": suite.tasks[0], "items": items, "rows": rows})
        return
    columns = ["method", "loss", "expectation", *HEADINGS.values()]
    table = [
        [row["method"], row["id"], row["averaged"], *(_rounded(row[field]) for field in HEADINGS)]
        for row in rows
    ]
    print(text_table(columns, table))
    positions = rows[0]["positions"] if rows else 0
    print(
        f"\n{positions} response positions of {items} examples of {suite.tasks[0]}. Ratios compare "
        "with the logit gradient of the full reverse KL. expectation: how the gradient is averaged "
        "over the sampled token: exact (by the probabilities of the rollout policy), or over the "
        "stored responses only (noisy)."
    )


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
