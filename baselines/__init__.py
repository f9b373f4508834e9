"""One method per file; installed as opcd_bench.baselines."""

if __name__ != "opcd_bench.baselines":
    raise ImportError(
        "import opcd_bench.baselines, not baselines: under its bare name every method would be "
        "registered twice"
    )
