"""One task per file; installed as opcd_bench.tasks."""

if __name__ != "opcd_bench.tasks":
    raise ImportError(
        "import opcd_bench.tasks, not tasks: under its bare name every task would be there twice"
    )
