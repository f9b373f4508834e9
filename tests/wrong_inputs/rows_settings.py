"""Every declared bound of a suite's settings and of ``[experience]``, and wrong values of each.

A loop over the declarations: so a new setting has its rows. Each value goes through ``--set`` or a
suite's TOML, and to ``run``, ``run --dry-run`` or ``estimate`` in turn.
"""

from typing import Any, Literal, get_args, get_origin

from row import Row

from opcd_bench.config import bounds
from opcd_bench.config.experience import Experience
from opcd_bench.config.fields import Settings

COMMANDS = ("run --dry-run", "estimate", "run")
SET_BY_WORDS = ("method_files", "task_files", "methods", "tasks")
"""Tables and lists of words: rows_run.py has theirs."""


def limits(field):
    return {
        key: value
        for limit in field.metadata
        for key in ("ge", "gt", "le", "lt", "min_length", "pattern")
        if (value := getattr(limit, key, None)) is not None
    }


def kinds(field):
    found = [field.annotation] if get_origin(field.annotation) is Literal else []
    parts = found or [one for one in get_args(field.annotation) if one is not type(None)]
    return parts or [field.annotation]


def below(found, whole):
    if "gt" in found:
        return str(found["gt"] - (1 if whole else 0.5))
    return str(found["ge"] - 1)


def numbers(field, whole):
    """Wrong values of a number with bounds, as TOML, and what is said of all of them."""
    found = limits(field)
    values = [below(found, whole), '"five"', '""', "nan", "1.5" if whole else "inf", "true"]
    if "le" in found:
        values += [str(found["le"] + 1), str(10**29)]
    if "lt" in found:
        values += [str(found["lt"])]
    return values, (bounds.allowed(field.metadata),)


def choices(field):
    words = [word for kind in kinds(field) for word in get_args(kind)]
    first = words[0]
    return [f'"{first.upper()}"', f'"{first}x"', '""', "3", f'["{first}"]'], (f"'{first}'",)


def texts(field):
    """Of a text there are these five: it has no range but what its pattern says."""
    values = ['""', "3", "true", '["a"]', '"a\\u0000b"']
    if "pattern" in limits(field):
        values += ['"meta"', '"mps"', '"cuda:"', '"gpu"', '"cuda:-1"']
    return values, ()


def wrong(field):
    """Wrong values of a setting, and the words that each message has; None for no bound."""
    parts, found = kinds(field), limits(field)
    if any(get_origin(kind) is Literal for kind in parts) and len(parts) == 1:
        return choices(field)
    if parts == [int] and found:
        return numbers(field, whole=True)
    if parts == [float] and found:
        return numbers(field, whole=False)
    if parts == [bool]:
        # There are two right values, and these are the ways to miss them.
        return ['"yes"', "1", "0", '""', "[true]"], ("must be true or false",)
    if parts == [str] and found:
        return texts(field)
    return None


def rows_of(name, field, table=None):
    found = wrong(field)
    if found is None:
        return
    values, said = found
    key = name if table is None else f"{table}.{name}"
    for place, value in enumerate(values):
        command = COMMANDS[place % len(COMMANDS)].split()
        words = (f"  {key}: ", *said)
        if place % 2:
            body = f"[{table}]\n{name} = {value}\n" if table else f"{name} = {value}\n"
            suite = f'methods = ["opcd"]\ntasks = ["rule_math"]\n{body}'
            typed = (*command, "--suite", "./mine.toml")
            yield Row(typed, ("mine.toml", *words), {"mine.toml": suite})
        else:
            inside = f"{table}={{{name} = {value}}}" if table else f"{name}={value}"
            yield Row((*command, "--suite", "quick", "--set", inside), words)


ROWS: list[Any] = [
    row
    for name, field in Settings.model_fields.items()
    if name not in SET_BY_WORDS
    for row in rows_of(name, field)
]
ROWS += [
    row
    for name, field in Experience.model_fields.items()
    for row in rows_of(name, field, "experience")
]

BY_HAND = {
    # These have a rule of their own in place of a range.
    "learning_rate": (
        "above 0 learning_rate",
        ["0", "-1e-4", "nan", "inf", '"fast"', '""', "[]", "[1e-4, 0]", "true"],
    ),
    "headline_learning_rate": (
        "headline_learning_rate",
        ["-1", "nan", "inf", '"test"', "3e-2", "[1e-4]"],
    ),
    "choose": ("choose", ["-1", "7", "10000000", '"best"', "1.5", "true"]),
    "name": (
        "name",
        ['""', '"../x"', '"/x"', '"a b"', "3", f'"{"n" * 300}"', '".hidden"', '"a\\nb"'],
    ),
    "retention": ("retention", ['"./mine.py"', "3", '["a", "a"]', '[""]', "[1]"]),
    "context": ("context", ['["a.txt", "a.txt"]', "3", "[3]", "true", "1.5"]),
    "summary": ("summary", ["3", "true", "[1]", "1.5", '"a\\u0000"']),
    "vllm_url": ("vllm_url", ["3", "true", "[1]", "1.5", '"a\\u0000"']),
    "teacher_url": ("teacher_url", ["3", "true", "[1]", "1.5", '"a\\u0000"']),
    "vllm_options": ("vllm_options", ["3", '"a"', "[1]", "true", "{seed = 3}"]),
    "experience": ("experience", ["3", '"a"', "[1]", "true", "1.5"]),
    "begin_weights": ("begin_weights", ["3", "true", "[1]", "1.5", '"a\\u0000"']),
    "begin_folder": ("begin_folder", ["3", "true", "[1]", "1.5", '"a\\u0000"']),
    "task_settings": (
        "task_settings",
        [
            "3",
            "{rule_math = 3}",
            "{other = {batch_size = 3}}",
            "{rule_math = {batch_size = 0}}",
            '{rule_math = {dtype = "auto"}}',
            "{rule_math = {max_steps = 10000000}}",
        ],
    ),
}
ROWS += [
    Row(
        (*COMMANDS[place % 2].split(), "--suite", "quick", "--set", f"{name}={value}"),
        (said.split()[-1],),
    )
    for name, (said, values) in BY_HAND.items()
    for place, value in enumerate(values)
]
