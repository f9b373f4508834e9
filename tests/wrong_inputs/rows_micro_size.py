"""Wrong sizes of the built-in model."""

from row import Row

ROWS = [
    Row("micro path --size nano", ("--size nano does not exist", "micro-small, micro")),
    Row("micro pretrain --size MICRO", ("--size MICRO does not exist", "micro-small")),
    Row("micro card --size small", ("--size small does not exist", "micro-small")),
    Row("micro path --size micro", ("does not come with", "micro pretrain --size")),
    Row("estimate --model micro --methods opcd --tasks rule_math", ("does not come with",)),
]
