"""`opcd-bench suites`: the suites that ship with the package, and their sizes."""

from __future__ import annotations

from opcd_bench.cli.output import Json, exit_if, print_broken, print_json, text_table
from opcd_bench.config.suite import Suite
from opcd_bench.errors import ConfigError
from opcd_bench.runner import registry
from opcd_bench.runner.grid import lengths, rates_and_seeds


def suites(json: Json = False) -> None:
    """List the suites: methods, tasks, cells, sizes (--size), what each is for.

    Exit 1 if one, or a size of one, cannot be read.
    """
    found: dict[str, Suite] = {}
    sizes: dict[str, tuple[str, ...]] = {}
    broken: dict[str, ConfigError] = {}
    for name in registry.suites():
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


def cell_count(suite: Suite) -> int:
    """How many cells a suite has, those whose rate is still to be chosen on dev included."""
    runs = len(rates_and_seeds(suite))
    if suite.headline_learning_rate == "dev" and suite.sweep_seeds is not None:
        runs += suite.seeds - suite.sweep_seeds
    return len(suite.methods) * len(suite.tasks) * runs
