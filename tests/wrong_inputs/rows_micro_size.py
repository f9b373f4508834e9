"""Wrong sizes of the built-in model."""

from row import Row

ROWS = [
    Row("micro path --size nano", ("--size nano does not exist", "micro-small, micro")),
    Row("micro pretrain --size MICRO", ("--size MICRO does not exist", "micro-small")),
    Row("micro card --size small", ("--size small does not exist", "micro-small")),
    Row("micro path --size 4M", ("--size 4M does not exist", "micro-small, micro")),
    Row("micro card --size micro-large", ("--size micro-large does not exist", "micro-small")),
]
