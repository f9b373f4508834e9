"""Wrong words at the very start of a command line."""

from row import Row

ROWS = [
    Row("runn", ("No such command 'runn'", "Did you mean", "run")),
    Row("--versoin", ("--version",)),
]
