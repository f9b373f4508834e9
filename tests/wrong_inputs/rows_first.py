"""Wrong words at the very start of a command line."""

from row import Row

ROWS = [
    Row("runn", ("No such command 'runn'", "Did you mean", "run")),
    Row("--versoin", ("--version",)),
    Row("--suite quick run", ("No such option: --suite", "after a subcommand")),
    Row("-v", ("No such option: -v", "opcd-bench --help")),
]
