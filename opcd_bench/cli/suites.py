"""`opcd-bench suites`: the suites that ship, and their sizes; one by name with its settings."""

from __future__ import annotations

import json as json_text
from typing import Annotated, Any

import typer

from opcd_bench.cli.output import Json, exit_if, print_broken, print_json, say, text_table
from opcd_bench.config.claims import Claim
from opcd_bench.config.suite import Suite
from opcd_bench.errors import ConfigError
from opcd_bench.runner import registry
from opcd_bench.runner.grid import lengths, rates_and_seeds


def suites(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SUITE]…",
            help="Only these, with settings and claims: names (quick), or files (./mine.toml).",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the suites: methods, tasks, cells, sizes (--size), what each is for.

    Exit 1 if one, or a size of one, cannot be read.
    """
    found: dict[str, Suite] = {}
    sizes: dict[str, tuple[str, ...]] = {}
    broken: dict[str, ConfigError] = {}
    for name in names or registry.suites():
        try:
            made = registry.suite(name)
            sizes[name] = registry.suite_sizes(name)
            for size in sizes[name]:
                registry.suite(name, size=size)
        except ConfigError as error:
            broken[name] = error
        else:
            found[name] = made
    if json:
        print_json(
            {
                "suites": [
                    {
                        **suite.model_dump(mode="json"),
                        "cells": cell_count(suite),
                        "sizes": list(sizes[name]),
                        "file": str(registry.suite_file(name)),
                    }
                    for name, suite in found.items()
                ],
                "broken": {name: str(error) for name, error in broken.items()},
            }
        )
    elif names:
        say("\n\n".join(_whole(name, made, sizes[name]) for name, made in found.items()))
    else:
        columns = [
            "suite", "methods", "tasks", "learning rates", "seeds", "steps", "cells", "sizes",
            "summary",
        ]  # fmt: skip
        rows = [
            [
                name,
                len(suite.methods),
                ",".join(suite.tasks),
                len(suite.learning_rate),
                suite.seeds,
                " or ".join(map(str, lengths(suite))),
                cell_count(suite),
                ",".join(sizes[name]) or None,
                suite.summary,
            ]
            for name, suite in found.items()
        ]
        print(text_table(columns, rows))
    print_broken(broken)
    exit_if(bool(broken))


def _whole(name: str, suite: Suite, sizes: tuple[str, ...]) -> str:
    """A suite by itself: what it is for, its sizes, settings and claims."""
    lines = [f"{suite.name}: {suite.summary}", f"{registry.suite_file(name)}"]
    lines += [f"{cell_count(suite)} cells", "", *_settings(_changed(suite, Suite))]
    lines.append("All other settings: their defaults (opcd-bench settings)")
    for size in sizes:
        lines += ["", f"--size {size}: as above, but for"]
        lines += _settings(_changed(registry.suite(name, size=size), suite))
    for number, claim in enumerate(suite.claims):
        lines += ["", f"claims.{number}: {claim.text}", f"  {_asked(claim)}"]
    return "\n".join(lines)


def _changed(suite: Suite, other: Suite | type[Suite]) -> dict[str, Any]:
    """The settings that differ from those of another suite, or from the defaults."""
    theirs = (
        {name: field.default for name, field in Suite.model_fields.items()}
        if isinstance(other, type)
        else {name: getattr(other, name) for name in Suite.model_fields}
    )
    values = suite.model_dump(mode="json")
    return {
        name: values[name]
        for name, value in theirs.items()
        if getattr(suite, name) != value and name not in ("name", "summary", "claims")
    }


def _settings(values: dict[str, Any]) -> list[str]:
    return [
        f"  {name} = {json_text.dumps(value, ensure_ascii=False)}" for name, value in values.items()
    ]


def _asked(claim: Claim) -> str:
    """What a claim contrasts, in the words of its settings."""
    second = claim.second or "0"
    by = f", threshold {claim.threshold:g}" if claim.threshold else ""
    probed = "" if claim.teacher is None else f", {claim.teacher} going on after {claim.share:g}"
    return f"{claim.measure}{probed}: {claim.first} {claim.direction} {second}{by}"


def cell_count(suite: Suite) -> int:
    """How many cells a suite has, those whose rate is still to be chosen on dev included."""
    runs = len(rates_and_seeds(suite))
    if suite.headline_learning_rate == "dev" and suite.sweep_seeds is not None:
        runs += suite.seeds - suite.sweep_seeds
    return len(suite.methods) * len(suite.tasks) * runs
