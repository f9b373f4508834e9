"""Options of the command line, made of declared settings: name, type, default, help, choices."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.markup import escape

METAVARS = {"vllm_url": "URL", "teacher_url": "URL", "learning_rate": "R,R"}
"""Of fields whose type says too little."""


def of(
    model: type[BaseModel], names: Iterable[str] | None = None, *, optional: bool = False
) -> list[inspect.Parameter]:
    """One option a setting, in the order of ``names``; None: all settings.

    ``optional``: each defaults to None, so that another place (a suite) says what holds. Bounds and
    choices are the declaration's to check: an option passes on what was typed.
    """
    return [
        _parameter(name, model.model_fields[name], optional)
        for name in (model.model_fields if names is None else names)
    ]


def put(function: Callable[..., Any], at: str, options: Iterable[inspect.Parameter]) -> None:
    """Put options in place of ``function``'s ``**words``, behind its parameter ``at``."""
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(function, eval_str=True).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    place = [parameter.name for parameter in own].index(at) + 1
    signature = inspect.Signature([*own[:place], *options, *own[place:]])
    function.__dict__["__signature__"] = signature


def _parameter(name: str, field: FieldInfo, optional: bool) -> inspect.Parameter:
    kind, metavar = _shape(name, field.annotation)
    flag = [f"--{name.replace('_', '-')}"] if kind is bool else []
    default = None if optional else field.default
    if default is None:
        kind = kind | None
    option = typer.Option(*flag, metavar=metavar, help=escape(field.description or ""))
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


def _shape(name: str, annotation: Any) -> tuple[Any, str | None]:
    """The type that typer reads, and how the value is written in the help."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) is Literal:
        return str, "|".join(map(str, kinds))
    if get_origin(annotation) is tuple:
        return str, METAVARS.get(name, "A,B")
    kind = kinds[0] if kinds else annotation
    return kind, METAVARS.get(name)
