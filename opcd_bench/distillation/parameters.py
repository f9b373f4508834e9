"""A method with parameters: ``opcd[k=4]`` is `opcd` with one field of its three choices changed."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from opcd_bench.config.words import bracketed
from opcd_bench.distillation.losses.coordinates import Coordinates
from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.method import (
    STUDENT,
    TOLD_TEACHER,
    WORD,
    Method,
    Teacher,
    Writer,
    mixture,
)
from opcd_bench.errors import InvalidLoss, UnknownName

Part = Literal["writer", "loss", "teacher", "begins"]


class Parameter(NamedTuple):
    """A field of a method that can stand in its brackets: whose, what it may be, its own name."""

    part: Part
    type: Any
    field: str


def parameters(method: Method) -> dict[str, Parameter]:
    """What the brackets of a method may hold, by name.

    ``teacher_share`` is the writer's: 0 is the student, 1 the told teacher, between them a mixture;
    ``writer_reads`` is what the told teacher reads as it writes. The loss's coordinates and the
    teacher's fields have their own names; so have the fields of a contributor's loss that is a
    dataclass, as far as they are numbers, words or truth values and no other part of a method has
    a parameter of the name. A stored writer has no share, and a loss that is a function no fields.
    ``begins_share`` is the share of the steps of a method's
    first stage; all others are the last stage's.
    """
    fields = _fields_of(method.loss)
    found = {name: Parameter("loss", kind, name) for name, kind in fields.items()}
    if method.writer.kind != "stored":
        found["teacher_share"] = Parameter("writer", float, "teacher_share")
        found["writer_reads"] = Parameter("writer", get_type_hints(Writer)["reads"], "reads")
    if method.begins is not None:
        found["begins_share"] = Parameter("begins", float, "share")
    for name, kind in get_type_hints(Teacher).items():
        found[name] = Parameter("teacher", kind, name)
    return dict(sorted(found.items()))


def _fields_of(loss: Any) -> dict[str, Any]:
    """The fields of a loss that brackets may hold, with their types."""
    of = Coordinates if isinstance(loss, Divergence) else type(loss)
    if not dataclasses.is_dataclass(of):
        return {}
    try:
        hints = get_type_hints(of)
    except (NameError, TypeError, AttributeError, KeyError):  # a contributor's annotations
        return {}
    given = [field.name for field in dataclasses.fields(of) if field.init]
    return {
        name: hints[name]
        for name in given
        if name != "allow_broken"
        and WORD.fullmatch(name)
        and all(map(_readable, _options(hints[name])))
    }


def values(method: Method) -> dict[str, Any]:
    """The value that a method has of every parameter that it takes."""
    return {
        name: getattr(getattr(method, parameter.part), parameter.field)
        for name, parameter in parameters(method).items()
    }


def with_parameters(method: Method, given: Mapping[str, str]) -> Method:
    """``method`` with the texts ``given`` in place of its own values, under its canonical name.

    A value that the method has anyway leaves no trace: with no other it is ``method`` itself.
    Raises UnknownName for a parameter that it does not take; InvalidLoss for a text that is no
    value of its field, or for a combination that `Divergence`, `Teacher`, `Method` or the loss
    refuses.
    """
    takes, own = parameters(method), values(method)
    for name in given:
        if name not in takes:
            where = f"of method {method.name!r}"
            raise UnknownName("parameter", name, takes, _why(method), where=where)
    read = {name: _value(method, name, takes[name].type, text) for name, text in given.items()}
    changed = {name: value for name, value in sorted(read.items()) if value != own[name]}
    if not changed:
        return method
    name = bracketed(method.name, {key: text_of(value) for key, value in changed.items()})
    parts: dict[Part, dict[str, Any]] = {"writer": {}, "loss": {}, "teacher": {}, "begins": {}}
    for key, value in changed.items():
        parts[takes[key].part][takes[key].field] = value
    try:
        return dataclasses.replace(
            method,
            name=name,
            summary=f"{method.summary} With {_listed(changed)}.",
            writer=_writer(method.writer, **parts["writer"]),
            loss=_with_fields(method.loss, parts["loss"]),
            teacher=_with(method.teacher, parts["teacher"]),
            begins=_with(method.begins, parts["begins"]),
        )
    except InvalidLoss as error:
        stand = {key: value for key, value in {**own, **changed}.items() if value is not None}
        why = str(error).removeprefix(f"method {name!r}: ")
        raise InvalidLoss(
            f"method {name}: {why}\nIts parameters, with these: {_listed(stand)}. Change those "
            "that contradict each other in the same brackets; 'none' leaves one out (k=none)"
        ) from None


def text_of(value: Any) -> str:
    """A value as it is written in brackets: the one text that it has."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _listed(changed: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={text_of(value)}" for name, value in changed.items())


def _with(part: Any, changed: Mapping[str, Any]) -> Any:
    return dataclasses.replace(part, **changed) if changed else part


def _with_fields(loss: Any, changed: Mapping[str, Any]) -> Any:
    """As `_with`; what a contributor's loss raises of its fields is an InvalidLoss."""
    try:
        return _with(loss, changed)
    except InvalidLoss:
        raise
    except Exception as error:
        raise InvalidLoss(f"{type(error).__name__}: {error}") from None


def _writer(writer: Writer, teacher_share: float | None = None, reads: Any = None) -> Writer:
    """The writer with another share of told replies, or told something else; None changes nothing.

    Raises InvalidLoss for a student that reads.
    """
    if teacher_share is None and reads is None:
        return writer
    share = writer.teacher_share if teacher_share is None else teacher_share
    made = {0.0: STUDENT, 1.0: TOLD_TEACHER}.get(share) or mixture(share)
    return dataclasses.replace(made, reads=reads or (writer.reads if share else "context"))


def _why(method: Method) -> str:
    """Why a method takes fewer parameters than others; nothing where it takes them all."""
    if _fields_of(method.loss):
        return ""
    return "Its loss has no fields: a frozen dataclass has, and they stand in brackets too."


def _value(method: Method, name: str, kind: Any, text: str) -> Any:
    """A text as a value of the parameter's type; InvalidLoss says what is allowed."""
    for option in _options(kind):
        try:
            return _read(option, text)
        except ValueError:
            continue
    words = [word for option in _options(kind) for word in _words(option)]
    near = difflib.get_close_matches(text, words, n=1)
    guess = f" Did you mean {name}={near[0]}?" if near else ""
    allowed = " or ".join(_said(option) for option in _options(kind))
    own = text_of(values(method)[name])
    raise InvalidLoss(
        f"method {method.name}[{name}={text}]: {name} is {allowed}, not {text!r}.{guess} "
        f"{method.name} has {name}={own}"
    )


def _options(kind: Any) -> Iterator[Any]:
    """The members of a union, or the type alone."""
    yield from get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _words(option: Any) -> tuple[str, ...]:
    """The words that a type may be, where it is one of a few."""
    if option is bool:
        return ("true", "false")
    if option is type(None):
        return ("none",)
    return get_args(option) if get_origin(option) is Literal else ()


def _readable(option: Any) -> bool:
    """Whether `_read` knows the type: of literals, words alone."""
    words = _words(option)
    return all(isinstance(word, str) for word in words) and (
        bool(words) or option in (int, float, str)
    )


def _read(option: Any, text: str) -> Any:
    if words := _words(option):
        if text not in words:
            raise ValueError(text)
        return {"none": None, "true": True, "false": False}[text] if _is_constant(option) else text
    if option is int:
        if not re.fullmatch(r"[+-]?\d+", text, flags=re.ASCII):
            raise ValueError(text)
        return int(text)
    if option is str:
        if text == "none" or not WORD.fullmatch(text):
            raise ValueError(text)
        return text
    assert option is float, option
    if "_" in text or not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _is_constant(option: Any) -> bool:
    return option is bool or option is type(None)


def _said(option: Any) -> str:
    """What a type allows, in words."""
    if words := _words(option):
        return " or ".join(words) if len(words) < 3 else f"one of {', '.join(words)}"
    return {int: "a whole number", str: "a name"}.get(option, "a number")
