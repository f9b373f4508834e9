"""From raw values to declared settings, or one message that lists every bad field."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from opcd_bench.config import bounds
from opcd_bench.errors import ConfigError

Declared = TypeVar("Declared", bound=BaseModel)

BRANCH = re.compile(r"int|float|str|bool|literal\[.*\]")
"""What pydantic adds to a field's place for each type of a union."""

PLAINLY = {
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be {le:g} or less",
    "finite_number": "must be a finite number",
    "too_short": "at least {min_length} is needed",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "dict_type": "must be a table",
    "tuple_type": "must be a list",
}
"""What pydantic finds wrong, in fewer words than its own."""

OF_NUMBERS = frozenset(
    """int_type int_from_float int_parsing_size float_type finite_number greater_than
    greater_than_equal less_than less_than_equal""".split()
)
"""Problems that the range of a setting explains."""

LONGEST_SHOWN = 60
"""Characters of a value that was given."""

QUOTED = re.compile(r"'([^']*)'")


def validated(model: type[Declared], values: Mapping[str, Any], where: str) -> Declared:
    """The settings of ``values``; ConfigError lists every bad field at once, with near names."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(_explain(error, model, where)) from None


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    found: dict[str, list[str]] = {}
    given: dict[str, str] = {}
    for problem in error.errors():
        key = _key(problem)
        found.setdefault(key, []).append(says(problem, key, model))
        if key and problem["type"] not in ("extra_forbidden", "missing"):
            given[key] = f" (given: {_shown(problem['input'])})"
    lines = [
        f"  {f'{key}: ' if key else ''}{', or '.join(dict.fromkeys(says))}{given.get(key, '')}"
        for key, says in found.items()
    ]
    return f"{where}: {len(lines)} setting{'s' * (len(lines) > 1)} cannot be used\n" + "\n".join(
        lines
    )


def _key(problem: ErrorDetails) -> str:
    """The field, with the keys of tables in it; nothing where fields contradict each other."""
    parts = [str(part) for part in problem["loc"]]
    if len(parts) > 1 and BRANCH.fullmatch(parts[-1]):
        parts = parts[:-1]
    return ".".join(parts)


def says(problem: ErrorDetails, key: str, model: type[BaseModel]) -> str:
    """What is wrong with one field, ``key`` of ``model``, without its name."""
    kind, name = problem["type"], key.rpartition(".")[2]
    fields = _fields(model, key.split(".")[:-1])
    if kind == "extra_forbidden":
        if "." in key and name in model.model_fields:
            return f"a setting of the suite itself: write it above [{key.partition('.')[0]}]"
        return f"no such setting{_near(name, fields)}"
    if kind == "missing":
        return f"missing; {fields[name].description}"
    if kind == "literal_error":
        allowed = str(problem["ctx"]["expected"])
        return f"must be {allowed}{_near(str(problem['input']), re.findall(QUOTED, allowed))}"
    if kind == "string_pattern_mismatch":
        return f"this value is not allowed. {fields[name].description}"
    if kind in PLAINLY:
        said = PLAINLY[kind].format(**problem.get("ctx", {}))
        allowed = _range(kind, fields.get(name))
        return (
            said if not allowed or said == f"must be {allowed}" else f"{said}; allowed: {allowed}"
        )
    return problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)


def _range(kind: str, field: FieldInfo | None) -> str:
    """The whole range of a setting, where a number is none of it."""
    if field is None or kind not in OF_NUMBERS:
        return ""
    return bounds.allowed(limit for part in _parts(field) for limit in part)


def _parts(field: FieldInfo) -> list[list[Any]]:
    """The limits of a field, wherever pydantic keeps them: its own, and those of its types."""
    own = [*field.metadata]
    for kind in (field.annotation, *get_args(field.annotation)):
        own += getattr(kind, "__metadata__", ())
    return [own, [one for part in own for one in getattr(part, "metadata", ())]]


def _shown(value: Any) -> str:
    """What was given, as it is written, or its beginning."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of more than 4,300 digits
        return "too large to be shown"
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} …"


def _fields(model: type[BaseModel], tables: Iterable[str]) -> Mapping[str, FieldInfo]:
    """The settings of a table in the settings; those of ``model`` itself where there is none."""
    for table in tables:
        if table not in model.model_fields:
            continue
        annotation = model.model_fields[table].annotation
        for kind in get_args(annotation) or (annotation,):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model.model_fields


def _near(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
