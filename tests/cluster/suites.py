"""A small suite for every kind of cluster, and what its runs came to."""

from opcd_bench.store.run_reader import RunReader

WORDS = [
    "run", "--methods", "opcd_full,sft_context", "--tasks", "frozen_lake", "--max-steps", "2",
    "--batch-size", "2", "--retention", "none", "--name", "small", "--device", "cpu",
    "--seeds", "1", "--set", "eval_steps=1", "--set", "dev_items=2", "--set", "test_items=3",
    "--set", "max_completion_length=6", "--set", "threads=1", "--set", "save_steps=1",
    "--no-report",
]  # fmt: skip


def rows(folder):
    """What every sealed cell below a folder trained on and scored, but for its times."""
    found = {}
    for done in sorted(folder.glob("results/small/*/DONE")):
        run = done.parent
        evals = RunReader(run).read("evals")
        found[run.name] = (run / "train.jsonl.gz").read_bytes(), evals
    return found
