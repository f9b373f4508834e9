"""Wrong inputs of `opcd-bench new`: names that a file must not have."""

from row import Row

MEANT = "the word has a meaning"
LETTERS = "use lower-case letters a to z, digits and underscores, a letter first"
NAMES = {
    "none": MEANT,
    "true": MEANT,
    "auto": MEANT,
    "lambda": MEANT,
    "match": MEANT,
    "json": "a module of Python's standard library",
    "random": "a module of Python's standard library",
    "registry": "a module of opcd_bench already",
    "torch": "an installed package",
    "ﬁ": LETTERS,
    "größe": LETTERS,
    "Mine": LETTERS,
    "2nd": LETTERS,
    "my-method": LETTERS,
    "../mine": LETTERS,
    "mine.py": LETTERS,
    "a b": LETTERS,
    "": LETTERS,
    "_mine": LETTERS,
}

ROWS = [
    *(
        Row(
            ("new", kind, name), (f"cannot name a {kind}", says, f"opcd-bench new {kind} my_{kind}")
        )
        for kind, start in (("method", 0), ("task", 1))
        for name, says in list(NAMES.items())[start :: start + 1]
    ),
    Row("new method opcd", ("method 'opcd' exists", "opcd-bench methods")),
    Row("new task rule_math", ("task 'rule_math' exists", "opcd-bench tasks")),
    Row("new method mine", ("exists; choose another name",), {"mine.py": "x"}),
    Row("new method mine", ("exists",), {"mine.py": lambda path: path.mkdir()}),
    Row("new methods mine", ("No such command 'methods'", "method")),
    Row("new method", ("Missing argument",)),
    Row("new method mine other", ("unexpected extra argument",)),
]
