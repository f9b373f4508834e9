"""How `opcd-bench run` prints the chains of a suite with rounds before they run."""

from __future__ import annotations

from opcd_bench.cli.output import print_json, text_table
from opcd_bench.config.suite import Suite
from opcd_bench.runner import grid
from opcd_bench.runner.rounds import any_suite
from opcd_bench.runner.rounds import chain as chains
from opcd_bench.store.run_reader import RunReader


def print_planned(suite: Suite, json: bool) -> None:
    """Every chain, and how many of its rounds are done; no model is loaded."""
    rows = []
    for one in chains.chains_of(suite, *any_suite.checked(suite)):
        runs = one.folder(suite).runs()[: suite.rounds]
        rows.append(
            {
                "task": one.task.name,
                "method": one.method.name,
                "learning_rate": one.learning_rate,
                "seed": one.seed,
                "name": one.name,
                "rounds": suite.rounds,
                "done": sum(RunReader(run).sealed for run in runs),
            }
        )
    if json:
        print_json({"suite": suite.model_dump(mode="json"), "chains": rows})
        return
    columns = ["task", "method", "learning rate", "seed", "chain", "state"]
    table = [
        [
            row["task"],
            row["method"],
            grid.rate_text(float(str(row["learning_rate"]))),
            row["seed"],
            row["name"],
            f"{row['done']} of {row['rounds']} rounds done",
        ]
        for row in rows
    ]
    print(text_table(columns, table))
    made = chains.experience_of(suite)
    print(
        f"\n{len(rows)} chains of {suite.rounds} round{'s' * (suite.rounds > 1)} in "
        f"{suite.output_dir}/{suite.name}/rounds; each round makes {made.seeds} x {made.items} "
        f"attempts and trains {grid.steps_text(suite)} on "
        f"{'the states that they visited' if suite.consolidate == 'replay' else 'train examples'}"
    )
