"""Wrong words of clusters and of the state of a suite."""

from row import Row

RUN = "run --methods opcd --tasks rule_math --dry-run"

ROWS = [
    Row(f"{RUN} --cluster slurn", ("cluster", "slurm")),
    Row(f"{RUN} --cluster-set gpus=1", ("cluster_options.gpus", "--cluster slurm", "--jobs")),
    Row(f"{RUN} --cluster slurm --cluster-set gpus", ("--cluster-set", "key=value")),
    Row(f"{RUN} --cluster slurm --cluster-set gpu=1", ("cluster_options.gpu", "gpus")),
    Row(f"{RUN} --cluster slurm --cluster-set gpus=many", ("cluster_options.gpus",)),
    Row(f"{RUN} --cluster slurm --cluster-set minutes=0", ("cluster_options.minutes", "1")),
    Row(f"{RUN} --cluster ray --cluster-set partition=gpu", ("option of slurm",)),
    Row(f"{RUN} --cluster slurm --cluster-set address=a:1", ("option of ray",)),
    Row(
        f"{RUN} --cluster slurm --engine vllm --vllm-url http://127.0.0.1:1",
        ("one server", "workers"),
    ),
    Row("status", ("Missing argument",)),
    Row("status none", ("none",)),
    Row("status none --output-dir nowhere --json", ("none",)),
    Row("status one two", ("unexpected extra argument", "two")),
    Row("status here", ("here",), {"here/notes.txt": "mine"}),
    Row("status none --jsn", ("No such option",)),
    Row("doctor --cluster-set gpus=1", ("--cluster slurm",)),
    Row("doctor --cluster local", ("slurm or ray",), None, 1),
]
