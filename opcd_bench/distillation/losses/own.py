"""What tells a contributor's own loss from all others: its source, and the values that it holds."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import math
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from opcd_bench.distillation.losses.divergence import Divergence
from opcd_bench.distillation.losses.policy_gradient import PolicyGradient
from opcd_bench.distillation.losses.scheduled import Taid
from opcd_bench.errors import InvalidLoss
from opcd_bench.hashing import text_digest

KNOWN = (Divergence, PolicyGradient, Taid)
"""Losses of the harness, which describe themselves. A class made from one of them is not known."""

_DATA = "numbers, strings, True, False, None, and lists, tuples and dicts of these"
_CONTAINERS = (dict, list, tuple, set, frozenset, str, bytes, int, float)


def described(loss: Any) -> dict[str, Any]:
    """A loss as JSON values: the same in every process, and another for another loss.

    Of a function or class: its qualified name, a hash of its source, a hash of what else of its
    file it uses (``uses``), and the values in it. Neither its module's name nor byte code, which
    differs between Python versions, is part of it. Raises InvalidLoss where the source cannot be
    read, for a closure, and for a value that is no data: edited, they would be the same method.
    """
    if type(loss) in KNOWN:
        return dict(loss.describe())
    if isinstance(loss, functools.partial):
        args = _value(list(loss.args), loss.func, "argument")
        keywords = _value(loss.keywords, loss.func, "argument")
        return {**described(loss.func), "args": args, "keywords": keywords}
    if inspect.ismethod(loss):
        of = {} if isinstance(loss.__self__, type) else {"of": described(loss.__self__)}
        return {**described(loss.__func__), **of}
    held = _defaults(loss) if inspect.isfunction(loss) else dict(_fields(loss))
    code = loss if inspect.isfunction(loss) else type(loss)
    found = _source(code)
    for function in [loss] if inspect.isfunction(loss) else _methods(type(loss)):
        _refuse_closure(function, code)
    values = {name: _value(value, code, name) for name, value in sorted(held.items())}
    return {**found, "values": values} if values else found


def _value(value: Any, of: Any, name: str) -> Any:
    """A value that a loss holds, as JSON; InvalidLoss for one that is no data."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if type(value) in (list, tuple):
        return [_value(each, of, f"{name}[{at}]") for at, each in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _value(each, of, f"{name}[{key!r}]") for key, each in value.items()}
    partial_or_function = isinstance(value, functools.partial) or inspect.isroutine(value)
    if type(value) in KNOWN or partial_or_function or _has_named_fields(value):
        return described(value)
    kind = type(value).__name__
    shown = f"{value}" if isinstance(value, float) else f"a{'n' * (kind[0] in 'AEIOaeio')} {kind}"
    _refuse(
        f"the loss {_name(of)}: {name} is {shown}, by which its runs cannot be known. Let it hold "
        f"data alone ({_DATA}; losses and frozen dataclasses of them too), and make the rest in "
        "its methods"
    )


def _has_named_fields(value: Any) -> bool:
    """Whether it is an instance of a dataclass or of a NamedTuple: its fields are all it holds."""
    return not isinstance(value, type) and (
        dataclasses.is_dataclass(value) or (isinstance(value, tuple) and hasattr(value, "_fields"))
    )


def _fields(loss: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds, by name; of a dataclass its fields alone, since others follow them."""
    if dataclasses.is_dataclass(loss):
        names = [field.name for field in dataclasses.fields(loss)]
    elif _has_named_fields(loss):
        names = [*loss._fields]
    elif isinstance(loss, _CONTAINERS):
        _refuse(
            f"the loss {_name(type(loss))} is a {type(loss).__mro__[-2].__name__}, by whose "
            "contents its runs cannot be known. Make it a frozen dataclass with a field for them"
        )
    else:
        slots = (getattr(base, "__slots__", ()) for base in type(loss).__mro__)
        named = [name for one in slots for name in ((one,) if isinstance(one, str) else one)]
        names = [*getattr(loss, "__dict__", {}), *named]
    return ((name, getattr(loss, name)) for name in names if hasattr(loss, name))


def _defaults(function: Any) -> dict[str, Any]:
    """The parameters of a function that have values, and these."""
    parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def _methods(of: type) -> Iterator[Any]:
    """The functions that a class's own source defines, not those that a dataclass makes."""
    file = inspect.getsourcefile(of)
    for value in vars(of).values():
        function = getattr(value, "__func__", getattr(value, "fget", value))
        if inspect.isfunction(function) and function.__code__.co_filename == file:
            yield function


def _refuse_closure(function: Any, of: Any) -> None:
    """Raise InvalidLoss for what reads variables of a function around it: no source has them."""
    read = [name for name in function.__code__.co_freevars if name != "__class__"]
    if read:
        _refuse(
            f"the loss {_name(of)} reads {', '.join(read)} of the function that made it, by which "
            f"its runs cannot be known. Make it a frozen dataclass with {', '.join(read)} as "
            "fields and the loss as __call__, at the top of its file; or fix parameters of a "
            "function by functools.partial"
        )


def _source(of: Any) -> dict[str, Any]:
    """Name and hashes of a function or class; InvalidLoss where its source cannot be read."""
    try:
        block, first = inspect.getsourcelines(of)
        tree = ast.parse("".join(lines := inspect.findsource(of)[0]))
    except (OSError, TypeError, SyntaxError):
        _refuse(
            f"the source of the loss {_name(of)} cannot be read, so an edited one would pass for "
            "the same method; define it with def or class in the method's own file"
        )
    own = range(first, first + len(block))
    used = [text for at in _used(tree, own, of.__name__) for text in lines[at.start - 1 : at[-1]]]
    uses = {"uses": text_digest("".join(used))} if used else {}
    source_hash = text_digest(textwrap.dedent("".join(block)))
    return {"callable": of.__qualname__, "source_hash": source_hash, **uses}


def _used(tree: ast.Module, own: range, name: str) -> list[range]:
    """The lines of a file's statements that a definition in the lines ``own`` uses, in order.

    Of what it imports, and of the classes that it is made from in other files, the import alone.
    """
    waiting = {_lines(node): node for node in tree.body if not _is_harness(node)}
    waiting = {at: node for at, node in waiting.items() if not {*at}.intersection(own)}
    inside = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    wanted = {name} | {node.id for node in inside if node.lineno in own}
    taken: list[range] = []
    while found := [at for at, node in waiting.items() if wanted.intersection(_bound(node))]:
        for at in found:
            node = waiting.pop(at)
            wanted |= {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        taken += found
    return sorted(taken, key=lambda at: at.start)


def _is_harness(node: ast.stmt) -> bool:
    """``import opcd_bench as …``: what it is does not depend on the file."""
    return isinstance(node, ast.Import) and [each.name for each in node.names] == ["opcd_bench"]


def _lines(node: ast.stmt) -> range:
    """The lines of a statement, its decorators included."""
    above = [each.lineno for each in getattr(node, "decorator_list", ())]
    return range(min([node.lineno, *above]), (node.end_lineno or node.lineno) + 1)


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement at the top of a file makes or changes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {each.asname or each.name.partition(".")[0] for each in node.names}
    if isinstance(node, ast.Expr):  # TABLE.append(4)
        return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    found = {name for part in ast.iter_child_nodes(node) if isinstance(part, ast.stmt)
             for name in _bound(part)}  # fmt: skip
    targets = [each for each in ast.walk(node)
               if isinstance(getattr(each, "ctx", None), ast.Store | ast.Del)]  # fmt: skip
    return found | {each.id for target in targets for each in ast.walk(target)
                    if isinstance(each, ast.Name)}  # fmt: skip


def _name(of: Any) -> str:
    return str(getattr(of, "__qualname__", of))


def _refuse(why: str) -> NoReturn:
    raise InvalidLoss(why)
