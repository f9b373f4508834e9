"""A declared setting for readers: name, type, default, class, range, and what it is."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from opcd_bench.config import bounds


class Described(NamedTuple):
    """A setting as texts.

    ``type`` and ``default`` are as a TOML file writes them, but for ``none`` and ``(required)``;
    ``kind`` is "identity" or "runtime", None in a table; ``help`` ends with the range.
    """

    name: str
    type: str
    default: str
    kind: str | None
    help: str


def described(model: type[BaseModel]) -> Iterator[Described]:
    """Every setting that a model declares, in its order."""
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        kind = str(extra["class"]) if isinstance(extra, dict) and "class" in extra else None
        allowed = bounds.allowed(field.metadata)
        said = f"{field.description or ''}{f' ({allowed})' if allowed else ''}"
        yield Described(name, _type(field.annotation), _default(field), kind, said)


def _type(annotation: Any) -> str:
    """A type in the words of TOML: `"last" or "full"`, `list of str`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "none"
    if origin is Literal:
        return " or ".join(
            f'"{value}"' if isinstance(value, str) else str(value) for value in inner
        )
    if origin in (Union, UnionType):
        return " or ".join(_type(one) for one in inner)
    if origin is tuple:
        return f"list of {_type(inner[0])}"
    if origin is dict or (inspect.isclass(annotation) and issubclass(annotation, BaseModel)):
        return "table"
    return str(getattr(annotation, "__name__", annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(required)"
    value = field.default
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    return f'"{value}"' if isinstance(value, str) else str(value)
