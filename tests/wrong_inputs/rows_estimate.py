"""Wrong words of ``estimate``, which takes those of ``run``: the same refusals."""

from row import Row

LONG = "x" * 300

ROWS = [
    Row("estimate", ("nothing to run", "--suite quick")),
    Row("estimate --suite nosuch", ("unknown suite 'nosuch'",)),
    Row("estimate --suite quick --measure -1", ("--measure",)),
    Row("estimate --suite quick --measure x", ("--measure", "Invalid value")),
    Row("estimate --suite quick --dry-run", ("--dry-run",)),
    Row(f"estimate --suite quick --set max_steps={10**29}", ("max_steps", "from 0 to 1,000,000")),
    Row("estimate --suite quick --seeds 100000000", ("seeds", "from 1 to 10,000")),
    Row("estimate --suite quick --set eval_steps=0", ("eval_steps", "from 1 to 1,000,000")),
    Row("estimate --suite quick --methods nosuch", ("unknown method 'nosuch'",)),
    Row("estimate --suite quick --context none.txt", ("there is no such file",)),
    Row("estimate --suite quick --model ./none", ("model folder ./none does not exist",)),
    Row(("estimate", "--suite", f"./{LONG}.toml"), ("File name too long",)),
    Row(("estimate", "--suite", "quick", "--context", LONG), ("File name too long",)),
    Row("estimate --suite quick --report-to wandb", ("wandb is not installed",)),
    Row("estimate --suite quick --set choose=11", ("choose = 11 is not an evaluated step",)),
    Row("estimate --suite quick --set warmup_steps=1000", ("warmup_steps = 1000 exceeds",)),
]  # fmt: skip
